package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// createFile writes a file that does not exist, with its mode from the start.
func createFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if err := fillFile(f, data); err != nil {
		_ = os.Remove(path)
		return err
	}
	return nil
}

// fillFile writes a file, and waits until the disk has it.
func fillFile(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// newFile is a file that replaces one.
type newFile struct {
	path string
	data []byte
	mode os.FileMode
}

// replaceFiles writes all files beside their places, and then renames them. A member that
// reads them in between finds a key that does not match, and reads them again later.
func replaceFiles(files ...newFile) (err error) {
	var written []string
	defer func() {
		for _, name := range written {
			_ = os.Remove(name) // those that were renamed are not there
		}
	}()
	for _, f := range files {
		name, err := f.write()
		if name != "" {
			written = append(written, name)
		}
		if err != nil {
			return err
		}
	}
	for i, f := range files {
		if err := os.Rename(written[i], f.path); err != nil {
			return err
		}
	}
	return nil
}

// write writes a file under another name. It gets the owner, the group and the group's right
// to read of the file that it will replace: a server that is not root must be able to
// read its key after a renewal by root.
func (f newFile) write() (name string, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(f.path), "."+filepath.Base(f.path)+".*")
	if err != nil {
		return "", err
	}
	name = tmp.Name()
	mode, err := f.like(tmp)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err != nil {
		return name, errors.Join(err, tmp.Close())
	}
	return name, fillFile(tmp, f.data)
}

// like gives a file the owner of the one that it will replace, and returns its mode.
func (f newFile) like(tmp *os.File) (os.FileMode, error) {
	old, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f.mode, nil
	}
	if err != nil {
		return 0, err
	}
	now, err := tmp.Stat()
	if err != nil {
		return 0, err
	}
	a, isA := old.Sys().(*syscall.Stat_t)
	b, isB := now.Sys().(*syscall.Stat_t)
	if isA && isB && (a.Uid != b.Uid || a.Gid != b.Gid) {
		if err := tmp.Chown(int(a.Uid), int(a.Gid)); err != nil {
			return 0, err
		}
	}
	return f.mode | old.Mode().Perm()&0o040, nil
}
