//go:build unix

package api

import "syscall"

const canReadRaw = true

// readRaw reads from a file descriptor that doesn't block; syscall.EAGAIN means that there is nothing.
func readRaw(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// writeRaw writes to one, likewise.
func writeRaw(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Write(int(fd), p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}
