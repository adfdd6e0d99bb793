// Package vfs is the seam between storage and the disk: the few file operations a write-ahead log and a checkpoint need, each
// with a stated promise about what survives a power loss.
//
// There are two file systems and one wrapper. OS is the real one. Mem lives in memory and knows which bytes and which directory
// entries a real disk would have promised to keep, so that Crash can lose the others. Hooked shows every operation of any file
// system to a function, which may watch it, fail it before it takes effect, or let it take effect and fail it all the same.
//
// # What survives
//
//   - Bytes written to a file survive once File.Sync returned. Until then any subset may survive, each 512-byte sector for itself:
//     as it was, as it is, or as it was in between.
//   - A sector that is not being written keeps what it holds. One that is rewritten has the old content or the new, never a mixture.
//   - A name that was created, renamed or removed survives once FS.SyncDir of its directory returned. Until then each of these may be
//     undone for itself. A rename is atomic: its two names change together.
//   - File.Sync says nothing about the file's name, and SyncDir nothing about its bytes.
//   - A removed file stays readable through the handles that are open on it.
//
// # What hurts
//
// After a Sync that failed nothing is known about the file: the kernel may have thrown the bytes away and a second Sync may succeed
// without them (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020). No caller may retry one.
package vfs
