package main

import "testing"

// TestMaxConns: the members of a process keep files for themselves, and share what is left for their clients.
func TestMaxConns(t *testing.T) {
	for _, test := range []struct{ may, members, files, want int }{
		{16384, 1, 1 << 20, 16384},
		{16384, 1, 16384 + ownFiles, 16384},
		{16384, 1, 16384, 16384 - ownFiles},
		{16384, 3, 20_000, (20_000 - ownFiles) / 3},
		{100, 1, 1024, 100},
		{16384, 1, 1024, 1024 - ownFiles},
		{16384, 1, 256, 128},
		{16384, 3, 64, 10},
	} {
		got, why := maxConns(test.may, test.members, test.files)
		if got != test.want || (why != "") != (got < test.may) {
			t.Errorf("%d of %d members with %d files: %d, %q", test.may, test.members, test.files, got, why)
		}
	}
}
