// Package coord is the Go client of coord, a coordination service: a small tree of nodes that a cluster keeps consistent,
// with sessions, watches and transactions.
package coord
