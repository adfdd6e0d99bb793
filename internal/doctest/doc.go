// Package doctest runs the examples of README.md and docs/*.md against real servers. It has tests alone.
//
// A fenced block is run if its language is sh or console, in the order of the page, with `coord` and `curl` on the path
// and in a directory of the page's own. Addresses at ports 7000 to 7999 are moved to free ports. A page begins with one
// member alone at 7070; localhost is where its examples look for it. What follows the language says how a block is run:
//
//	```sh                      as a script; any command that fails, fails the test
//	```console                 each line behind "$ ": what it prints must be what follows; "…" stands for anything
//	```sh terminals            each command at once, in the background, until the page ends: servers of several members,
//	                           which replace the one that the page began with; all are waited for until they are ready
//	```sh no-run: why          not at all, because why
//	```yaml coord              not run, but it must be a valid configuration file
//
// An answer of 400 or above must be announced by a comment that begins with its status ("# 412: …"), and the other way
// round. `curl -N` is ended once it has printed something, or as much as the page shows. After an answer that has an id
// and a secret, $ID and $SECRET are set to them.
package doctest
