package serve

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
)

// maxFiles is how many files and directories a package may have.
const maxFiles = 10000

// unpack unpacks a tar file, which gzip or bzip2 may have compressed, into a directory.
// Nothing is written outside of it. Links and devices are refused. limit bounds the size of
// all files together.
func unpack(dir string, r io.Reader, limit int64) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	plain, err := decompress(r)
	if err != nil {
		return fmt.Errorf("the package cannot be unpacked: %w", err)
	}
	t := tar.NewReader(io.LimitReader(plain, limit+(maxFiles+2)*1024))
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the package cannot be unpacked: %w", err)
		}
		if n == maxFiles {
			return fmt.Errorf("the package has more than %d files", maxFiles)
		}
		if limit -= h.Size; limit < 0 {
			return errors.New("the package is too large when unpacked")
		}
		if err := unpackOne(root, t, h); err != nil {
			return fmt.Errorf("the package cannot be unpacked: %w", err)
		}
	}
}

// unpackOne unpacks a file or a directory.
func unpackOne(root *os.Root, r io.Reader, h *tar.Header) error {
	name := path.Clean(h.Name)
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o700)
	case tar.TypeReg:
		if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return err
		}
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600|os.FileMode(h.Mode)&0o100)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	case tar.TypeXGlobalHeader:
		return nil
	default:
		return fmt.Errorf("%q is neither a file nor a directory", h.Name)
	}
}

// decompress finds out how a file is compressed.
func decompress(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	magic, _ := b.Peek(3)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(b)
	case bytes.HasPrefix(magic, []byte("BZh")):
		return bzip2.NewReader(b), nil
	}
	return b, nil
}
