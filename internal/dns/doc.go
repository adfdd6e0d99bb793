// Package dns is the DNS door: services of package registry as SRV, A and AAAA records, for programs that speak nothing
// of coord's. It is off unless it is told where to listen.
//
//	NAME.service.coord         A, AAAA, SRV: the instances that are passing
//	TAG.NAME.service.coord     those of them that have a tag
//	_NAME._tcp.service.coord   SRV, as RFC 2782 has it
//	HEX.addr.coord             A or AAAA: the address that the name spells, to which SRV records point
//
// Guarantees: an answer is from one state of the member that was asked, and has no instance that was critical there. A
// service that is not registered is NXDOMAIN; one that has nothing to answer with, say because no instance is passing, is
// an empty NOERROR. An answer over UDP has at most 1232 bytes, and says TC when that is too little; over TCP it has all, up to
// 500 instances, drawn by lot from more. What anybody may not read isn't shown.
//
// What it can't: be fresh. Reads are eventual: a member that is cut off goes on answering with what it knew, and resolvers
// on the way remember answers for the TTL, one second, if they respect it. There is no TLS, no identity, no zone transfer, no
// recursion and no DNSSEC.
//
// What hurts: a query reads all instances of its service. It is for the machines of one network, not for the internet.
package dns
