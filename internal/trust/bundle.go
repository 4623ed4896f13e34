package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// parse reads the certificates of a file, at least one.
func parse(path string, text []byte) ([]*x509.Certificate, error) {
	list, _, err := Certificates(path, text)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%s has no certificate in PEM", path)
	}
	return list, err
}

// Certificates reads the certificates of a file, which may have none. other is what else there is
// in PEM. If one cannot be read, there is an error: without it, the members of a CA would be refused.
func Certificates(path string, text []byte) (list []*x509.Certificate, other string, err error) {
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			other = block.Type
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, "", fmt.Errorf("%s: certificate %d cannot be read: %s", path, len(list)+1, plain(err))
		}
		list = append(list, c)
	}
	if n := marked(text); n > len(list) {
		return nil, "", fmt.Errorf("%s: only %d of %d certificates can be read: each needs all its lines, from BEGIN CERTIFICATE to END CERTIFICATE, and those two on lines of their own", path, len(list), n)
	}
	return list, other, nil
}

// marked counts the certificates of a text by their first lines or, if there are more, their last
// ones. Package pem skips those that it cannot read, such as one that is cut off, or one that is
// behind a file without a newline at its end. Lines with # are comments.
func marked(text []byte) int {
	begin, end := 0, 0
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(bytes.TrimSpace(line), []byte("#")) {
			begin += bytes.Count(line, []byte("-----BEGIN CERTIFICATE-----"))
			end += bytes.Count(line, []byte("-----END CERTIFICATE-----"))
		}
	}
	return max(begin, end)
}
