//go:build !unix

package trust

import "os"

// exposed reports whether other users can read a file. Its mode does not say that here.
func exposed(os.FileInfo) bool { return false }
