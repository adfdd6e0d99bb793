//go:build !unix

package api

import "errors"

const canReadRaw = false

func readRaw(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

func writeRaw(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
