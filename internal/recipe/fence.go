package recipe

import (
	"context"
	"errors"
	"strconv"

	"github.com/coord-kv/coord/op"
)

// A fence register remembers the highest token that a resource outside of coord has been used with. Whoever guards the
// resource shows it the token of each use, and lets only those pass that it accepts: once a newer holder has come, no
// older one gets through. Tokens must be of one exclusive lock, or of one election: only these grow.

// Fence is what a register knows.
type Fence struct {
	Resource string
	Token    op.Zxid
	Since    op.Time // when the token was first seen
}

// ReadFence returns what the register of a resource knows. The error is a no_node if it has seen no token yet.
func ReadFence(ctx context.Context, r Reader, resource string) (Fence, error) {
	f, _, err := readFence(ctx, r, resource)
	return f, err
}

func readFence(ctx context.Context, r Reader, resource string) (Fence, *op.Stat, error) {
	path, err := Dir(FencesDir, resource)
	if err != nil {
		return Fence{}, nil, err
	}
	res, err := r.Read(ctx, &op.Get{Path: path}, op.ReadOptions{Level: op.Linearizable})
	if err != nil {
		return Fence{}, nil, err
	}
	token, err := strconv.ParseUint(string(res.Data), 10, 63)
	if err != nil {
		return Fence{}, nil, op.Errorf(op.PreconditionFailed, "%s is no fence register: it holds no token", path)
	}
	return Fence{resource, op.Zxid(token), res.Stat.Mtime}, res.Stat, nil
}

// Pass shows a token to the register of a resource. It is accepted, and remembered, if it is not below any that was
// shown before; else the error is a stale_token. Each attempt is one transaction; several at once may make some of them
// look again.
func Pass(ctx context.Context, c Conn, resource string, token op.Zxid) (Fence, error) {
	path, err := Dir(FencesDir, resource)
	if err != nil {
		return Fence{}, err
	}
	if token == 0 {
		return Fence{}, op.Errorf(op.BadRequest, "the token 0 was never given out")
	}
	data := []byte(strconv.FormatUint(uint64(token), 10))
	for {
		f, stat, err := readFence(ctx, c, resource)
		var o op.Op
		switch {
		case errors.Is(err, &op.Error{Code: op.NoNode}):
			o = &op.Create{Path: path, Data: data, Parents: true}
		case err != nil:
			return f, err
		case token < f.Token:
			return f, &op.Error{
				Code: op.StaleToken, Outcome: op.Decided, Path: path,
				Detail: "token " + string(data) + " is stale: " + strconv.FormatUint(uint64(f.Token), 10) + " has been here",
			}
		case token == f.Token:
			return f, nil
		default:
			o = &op.Set{Path: path, Data: data, If: op.Cond{Version: stat.Version, Mzxid: stat.Mzxid}}
		}
		_, err = c.Do(ctx, o)
		if !lostRace(err) {
			return Fence{Resource: resource, Token: token}, err
		}
	}
}

// lostRace reports whether somebody else has changed the register in between.
func lostRace(err error) bool {
	return errors.Is(err, &op.Error{Code: op.BadVersion}) || errors.Is(err, &op.Error{Code: op.NodeExists}) ||
		errors.Is(err, &op.Error{Code: op.NoNode})
}
