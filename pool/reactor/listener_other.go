//go:build !linux || 386 || s390x

package reactor

import (
	"io/fs"
	"syscall"
)

// restrictSocketFile does nothing where a socket has no mode before it has a
// file; there Listen changes the mode of the file.
func restrictSocketFile(fs.FileMode) func(network, address string, c syscall.RawConn) error {
	return nil
}
