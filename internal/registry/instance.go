package registry

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/coord-kv/coord/internal/recipe/group"
	"github.com/coord-kv/coord/op"
)

// Status is the health of an instance, as whoever registered it says.
type Status string

// The statuses.
const (
	Passing  Status = "passing"
	Warning  Status = "warning" // it serves, and somebody should look at it
	Critical Status = "critical"
)

func (s Status) check() error {
	switch s {
	case Passing, Warning, Critical:
		return nil
	}
	return op.Errorf(op.BadRequest, "%.64q is no status: passing, warning or critical", string(s))
}

func checkHealth(s Status, reason string) error {
	if err := s.check(); err != nil {
		return err
	}
	if len(reason) > MaxReason || !utf8.ValidString(reason) || strings.ContainsFunc(reason, unicode.IsControl) {
		return op.Errorf(op.BadRequest, "the reason must be text on one line, up to %d bytes", MaxReason)
	}
	return nil
}

// Instance is one place where a service can be had.
type Instance struct {
	Service string            // a label as in DNS: 1 to 63 of a-z, 0-9 and inner hyphens
	ID      string            // one segment of a path, at most 255 bytes
	Address string            // an IP address or the name of a host
	Port    uint16            // 1 to 65535
	Tags    []string          // up to 32, of 1 to 63 visible ASCII characters
	Meta    map[string]string // up to 32 entries
	Status  Status            // Passing if empty
	Reason  string            // why it has that status, up to MaxReason bytes on one line; empty if nobody has said

	// As it stands; Register ignores these.
	Since      op.Time      // when it came to its status, by the wall clock of the leader then
	Registered op.Time      // when its id was registered
	Session    op.SessionID // whose it is

	created, revision op.Zxid // its node's Czxid and Mzxid
}

// Created reports whether the instance, as Register returned it, was not there before.
func (x *Instance) Created() bool { return x.created == x.revision }

// member returns as much of the instance's node as tells it from others of its id.
func (x *Instance) member() group.Member {
	return group.Member{ID: x.ID, Stat: op.Stat{Czxid: x.created, EphemeralOwner: x.Session}}
}

// Bounds of an instance. Its node is read by everybody who resolves its service.
const (
	maxAddress = 253
	maxLabel   = 63
	maxTags    = 32
	maxMeta    = 32
	maxData    = 8 << 10

	MaxReason = 256
)

// record is the data of an instance's node. Since is there only if it isn't the time when the node was last written: a
// write that changes the status need not know what time it is.
type record struct {
	Address string            `json:"address"`
	Port    uint16            `json:"port"`
	Tags    []string          `json:"tags,omitempty"`
	Meta    map[string]string `json:"meta,omitempty"`
	Status  Status            `json:"status"`
	Reason  string            `json:"reason,omitempty"`
	Since   op.Time           `json:"since,omitzero"`
}

// instance reads a member of a service's group. What is not an instance is a bad_request.
func instance(service string, m group.Member) (Instance, error) {
	r, ok := decode(m.Data)
	if !ok {
		return Instance{}, op.Errorf(op.BadRequest, "%s/%s/%s is not an instance", Dir, service, m.ID)
	}
	if r.Since == 0 {
		r.Since = m.Stat.Mtime
	}
	return Instance{
		Service: service, ID: m.ID, Address: r.Address, Port: r.Port, Tags: r.Tags, Meta: r.Meta, Status: r.Status,
		Reason: r.Reason, Since: r.Since, Registered: m.Stat.Ctime, Session: m.Stat.EphemeralOwner,
		created: m.Stat.Czxid, revision: m.Stat.Mzxid,
	}, nil
}

func decode(data []byte) (r record, ok bool) {
	err := json.Unmarshal(data, &r)
	return r, err == nil && r.Status.check() == nil && r.Address != ""
}

// StatusOf returns the health that the data of a node says, and whether it is that of an instance.
func StatusOf(data []byte) (Status, bool) {
	r, ok := decode(data)
	return r.Status, ok
}

// sinceIn returns since when the instance has its status, if the registered one had that already; else 0.
func (x *Instance) sinceIn(old group.Member) op.Time {
	before, err := instance(x.Service, old)
	if err != nil || before.Status != x.Status {
		return 0
	}
	return before.Since
}

func (x *Instance) data(since op.Time) []byte {
	b, err := json.Marshal(record{x.Address, x.Port, x.Tags, x.Meta, x.Status, x.Reason, since})
	if err != nil {
		panic(fmt.Sprintf("registry: couldn't encode an instance: %v", err)) // it has nothing that can fail
	}
	return b
}

// CheckName returns a bad_request error unless name can be that of a service: a label as in DNS, in lower case.
func CheckName(name string) error {
	ok := len(name) >= 1 && len(name) <= maxLabel && name[0] != '-' && name[len(name)-1] != '-' &&
		!strings.ContainsFunc(name, func(r rune) bool { return !isLabel(r) })
	if !ok {
		return op.Errorf(op.BadRequest,
			"%.64q can't be the name of a service: it has 1 to 63 of a-z, 0-9 and hyphens, no hyphen at an end", name)
	}
	return nil
}

func isLabel(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' }

// Check returns why the instance can't be registered as it is: a bad_request, bad_path or too_large. An empty status is
// that of Passing.
func (x *Instance) Check() error {
	if err := CheckName(x.Service); err != nil {
		return err
	}
	if err := group.CheckName(x.ID); err != nil {
		return err
	}
	if err := checkHealth(cmp.Or(x.Status, Passing), x.Reason); err != nil {
		return err
	}
	switch {
	case x.Address == "" || len(x.Address) > maxAddress || !visible(x.Address):
		return op.Errorf(op.BadRequest, "the address must be 1 to %d visible ASCII characters", maxAddress)
	case x.Port == 0:
		return op.Errorf(op.BadRequest, "the port must be 1 to 65535")
	case len(x.Tags) > maxTags:
		return op.Errorf(op.BadRequest, "%d tags; up to %d can be given", len(x.Tags), maxTags)
	case len(x.Meta) > maxMeta:
		return op.Errorf(op.BadRequest, "%d entries of meta; up to %d can be given", len(x.Meta), maxMeta)
	}
	for _, tag := range x.Tags {
		if tag == "" || len(tag) > maxLabel || !visible(tag) {
			return op.Errorf(op.BadRequest, "the tag %.64q; tags are 1 to %d visible ASCII characters", tag, maxLabel)
		}
	}
	for k, v := range x.Meta {
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return op.Errorf(op.BadRequest, "the entry %.64q of meta is not UTF-8 text, or has no name", k)
		}
	}
	if n := len(x.data(0)); n > maxData {
		return &op.Error{Code: op.TooLarge, Limit: maxData, Have: int64(n), Detail: "an instance's tags and meta are too long"}
	}
	return nil
}

func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
