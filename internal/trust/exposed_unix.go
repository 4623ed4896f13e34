//go:build unix

package trust

import (
	"os"
	"syscall"
)

// exposed reports whether users other than the owner can read or write a file. The group of a
// file of root may read it: so it is with the volumes of Kubernetes, whose fsGroup is how
// a server that is not root gets its key.
func exposed(info os.FileInfo) bool {
	others := info.Mode().Perm() & 0o077
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid == 0 {
		others &^= 0o040
	}
	return others != 0
}
