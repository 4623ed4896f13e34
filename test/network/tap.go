package network

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const tunDevice = "/dev/net/tun"

// openTap makes an interface in the namespace of the thread, whose frames are
// read from and written to the file, and which ends with it.
func openTap(name string) (*os.File, error) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", tunDevice, err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("new interface %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), tunDevice), nil
}

// setCarrier tells the kernel whether the interface's cable is plugged in.
func setCarrier(f *os.File, on bool) error {
	value := 0
	if on {
		value = 1
	}
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = c.Control(func(fd uintptr) { failed = unix.IoctlSetPointerInt(int(fd), unix.TUNSETCARRIER, value) })
	if err == nil {
		err = failed
	}
	return err
}
