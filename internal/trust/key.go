package trust

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
)

// ReadKey reads a private key as a member does, and returns its public key.
func ReadKey(path string) (crypto.PublicKey, error) {
	text, err := new(reader).read(path, checkKey)
	if err != nil {
		return nil, err
	}
	key, err := privateKey(path, text)
	if err != nil {
		return nil, err
	}
	return key.Public(), nil
}

// privateKey is the first private key of a file that has passed checkKey.
func privateKey(path string, text []byte) (crypto.Signer, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, fmt.Errorf("%s has a private key that cannot be read: its end is missing", path)
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") { // the parameters of OpenSSL's key, a certificate
			continue
		}
		key, err := parseKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s has a private key that cannot be read: %s", path, plain(err))
		}
		return key, nil
	}
}

// checkKey refuses files without a key, or with a passphrase.
func checkKey(path string, text []byte) error {
	if bytes.Contains(text, []byte("ENCRYPTED")) {
		return fmt.Errorf("%s is encrypted with a passphrase: remove it (openssl pkey -in %[1]s -out NEWFILE)", path)
	}
	switch {
	case bytes.Contains(text, []byte("PRIVATE KEY-----")):
		return nil
	case bytes.Contains(text, []byte("BEGIN CERTIFICATE-----")):
		return fmt.Errorf("%s is a certificate, not a key: are CERT and KEY swapped?", path)
	}
	return fmt.Errorf("%s has no private key in PEM", path)
}

// parseKey reads a key in one of the forms that package tls reads.
func parseKey(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T does not sign", key)
	}
	return signer, nil
}
