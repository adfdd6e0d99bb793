// Package discovery is service discovery for programs: they register where they can be had, and find each other by name.
//
// [Register] registers an instance under a session, runs its health checks and writes down how it is. [Resolve] returns
// the instances of a service, [Watch] goes on to return them as they change, and a [Balancer] picks one after the other,
// for anything or as an http.RoundTripper. The same services are there for curl under /v1/services and for the shell as
// coord services; docs/discovery.md is a tour.
//
// # Guarantees
//
//   - An instance goes with the session that registered it, and at once when its Registration is closed.
//   - Nobody else looks at an instance: its status is what its own checks found last, and it is critical until they have
//     found it well. A status that could not be written is written after the next check.
//   - Watch begins with the instances as they are and never ends up showing something else than what is there: no
//     change is missed, though several may come as one.
//   - A Balancer and a Watch outlive the loss of all members: they go on with what they knew.
//
// # What hurts
//
// An instance whose machine has died stays until its session's timeout is over, with the status that it had: be ready to
// try another one, as the Balancer's Transport does. Passing says that the instance could be reached from itself, not
// from where you are. Each change of an instance is a write, and is sent to everybody who watches its service.
package discovery
