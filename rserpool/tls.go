package rserpool

// TLSFiles are the files, in PEM, by which a member of a trusted scope proves who it is, and
// judges the others (RFC 5355): Cert, Key and CA, or CA alone for pool users without a
// certificate, or Secret. The zero value is no TLS. `rsp ca` makes such files. They are read
// again when they have changed.
type TLSFiles struct {
	// Cert has this side's certificate, and those of intermediate authorities after it.
	Cert string
	// Key has the private key of the certificate. Only its owner may be able to read it.
	Key string
	// CA has the certificates of the authorities that others must be certified by.
	CA string
	// Secret has the shared secret of all members, in place of the other files.
	Secret string
}

// Set reports whether any file is named, so that TLS is to be used.
func (f TLSFiles) Set() bool { return f != TLSFiles{} }
