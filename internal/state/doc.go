// Package state keeps a map of keys and values on disk for a process that must neither wait
// for the disk nor lose much when it is killed: what a registrar has to remember over a
// restart. The values are in a bbolt database, DIR/state.db.
//
// [Store.Put] and [Store.Delete] only note a change. One goroutine writes the noted changes,
// in one transaction, at most once in Config.Every. So the latest changes are lost with the
// process, the others are not: a transaction is on the disk as a whole or not at all, whenever
// the process or the machine fails. A beat writes the stamp (see Config.Stamp) even if there is
// no change, so that the next process knows until when this one was there.
//
// # What may go wrong
//
// [Open] fails if another process uses the directory, and if the directory cannot be one.
// Everything else costs the content at most, and never the service:
//
//   - A file that is damaged, is not a Store's, or has another format is renamed, and an empty
//     one takes its place. bbolt trusts its pages: a damaged one can make it read outside of the
//     file or run without end. So the pages are checked before bbolt sees them, and the keys and
//     values as a whole against a sum of checksums.
//   - If a write fails, because the disk is full, read-only or broken, the changes stay in
//     memory and are written as soon as that is possible. If the file is not as the last successful
//     write has left it by then, or the write was one of several that fill a new set of entries,
//     the Store asks for all entries (Config.Rewrite).
//   - If somebody deletes, replaces or changes the file while a Store writes to it, the Store
//     notices it at the next write, and writes all entries to a new file.
//   - If the file can no longer be opened, because its owner or a mode has changed, the Store
//     notices it at the next write, at the latest after a beat: a restart could not read it.
//   - If the disk does not respond, Open waits for Config.openTimeout and Close as long as its
//     caller wants. Nobody else waits.
//   - If there are more than Config.MaxPending changes in memory, they are dropped. When the
//     disk accepts writes again, the Store asks for all entries. The former ones stay in the file
//     until the new ones are complete. So the file has room for twice the entries from then on: it
//     does not shrink.
//   - A key that is too long for bbolt, with more than 32768 bytes, is left out.
package state
