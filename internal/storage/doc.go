// Package storage keeps what a member must not forget, in a directory of its own: a write-ahead log in segments, the newest
// checkpoint, and a manifest (bbolt) that says which checkpoint counts and holds ids, the boot number and the event history.
//
// Guarantees: what Append was told to sync survives the end of the process and of the power. After a crash at any moment
// the directory opens as it was before or after the operation under way, never in between. Damage to what was synced is
// reported with file and offset and never served; a torn end above the mark of what was synced is cut, and remembered, because
// a member that may have lost something must vote with care. A directory of another member, cluster or version, or one that
// somebody else uses or may read, is refused with what to do.
//
// What hurts: each append with sync waits for the disk, and a checkpoint writes the whole state beside it, at a limited rate.
// A call that fails is never repeated: nobody knows what was written, so the member has to end. Methods are for one
// goroutine, but for those that say otherwise.
package storage
