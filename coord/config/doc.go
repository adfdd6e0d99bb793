// Package config is configuration for programs: the values of an application, bound to a type of yours, changed while it
// runs, with a history that says who changed what, when and why, and a way back.
//
// [Bind] reads a configuration, checks it, and goes on to follow it. What [Value.Get] returns is always one whole version
// that was found valid: a newer one that can't be decoded, or that your validation refuses, changes nothing but
// [Value.Err]. [Set], [Update] and [Rollback] change it, [Get], [At], [History] and [Diff] look at it. The same
// configurations are there for curl under /v1/config and for the shell as coord config; docs/app-config.md is a tour.
//
//	type Shop struct {
//		Limit   int           `config:"limit,required"`
//		Timeout time.Duration `config:"timeout"`
//		DB      struct {
//			URL string `config:"url"` // the key db.url
//		} `config:"db"`
//	}
//
// # Guarantees
//
//   - A change is one transaction: whoever reads or follows sees all of it or nothing, and so does a rollback.
//   - A Value never goes back: what it takes is from a later state than what it had. It may leave versions out that were
//     replaced at once, and it comes to the newest one as soon as a majority can be reached.
//   - A Value outlives the loss of all members: it goes on with what it knew. [Value.AsOf] says of which moment that was
//     the newest.
//   - An invalid version is never in force. Err names it, and what was in force stays until there is a valid one.
//   - Writes through a *coord.Session are done once, whatever happens to connections; through a *coord.Client the error may
//     be coord.ErrOutcomeUnknown: look at the history then.
//
// # What hurts
//
// Programs take a new version one after the other, each when it hears of it: for a moment some have the old one and some
// the new. Whoever must not act on an old value has to read it linearizably, or fence the write. A program that starts
// while no majority can be reached has no configuration to begin with. Values are read by everybody who may read the
// nodes: they are no place for secrets unless an access control list says who that is. Errors of this package name keys,
// never values.
package config
