package settings

import (
	"context"
	"errors"

	"github.com/coord-kv/coord/op"
)

// KeyVersion is a version that has changed a key, and the value that the key has had from then on; nil is none.
type KeyVersion struct {
	Version
	Value *string
}

// KeyHistory lists the versions that have changed a key, the newest first, as far as they are kept. The oldest one that
// is kept counts if the key has a value in it.
func (s *Settings) KeyHistory(ctx context.Context, app, key string, o op.ReadOptions) ([]KeyVersion, error) {
	if err := checkName(key); err != nil {
		return nil, err
	}
	kept, err := s.History(ctx, app, o)
	if err != nil {
		return nil, err
	}
	var list []KeyVersion
	for _, v := range kept {
		c, err := s.At(ctx, app, v.Number, o)
		if errors.Is(err, &op.Error{Code: op.NoNode}) {
			break // forgotten meanwhile, like all that are older
		}
		if err != nil {
			return nil, err
		}
		value, has := c.Values[key]
		now := KeyVersion{Version: v}
		if has {
			now.Value = &value
		}
		// What the newer version before it has left as it was, this one or an older one has made.
		if n := len(list); n > 0 && equal(list[n-1].Value, now.Value) {
			list[n-1] = now
		} else {
			list = append(list, now)
		}
	}
	if n := len(list); n > 0 && list[n-1].Value == nil {
		list = list[:n-1]
	}
	return list, nil
}

func equal(a, b *string) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
