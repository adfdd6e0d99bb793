package main

import (
	"fmt"
	"math"
	"syscall"
)

// ownFiles is how many open files the members of a process have for themselves: logs, checkpoints, streams to others.
// A member that can't open its next file stops, and clients must not be able to bring that about by connecting.
const ownFiles = 256

// maxConns returns how many connections each of so many members takes, of those that it may: each is an open file, and
// the process may have so many. The second result says what is wrong with that, "" if nothing.
func maxConns(may, members, files int) (int, string) {
	room := max(files-ownFiles, files/2) / members
	if may <= room {
		return may, ""
	}
	return room, fmt.Sprintf("at most %d connections are taken, not %d, because this process may open no more than %d files: "+
		"raise that (ulimit -n, or LimitNOFILE= of systemd)", room, may, files)
}

// openFiles returns how many files this process may open. Go has raised it to the hard limit by now.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(limit.Cur)
}
