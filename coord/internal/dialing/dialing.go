// Package dialing tells a dialer for which session a connection is, so that a test can hold up that one alone.
package dialing

import "context"

type key struct{}

// For returns a context of a dial whose connection is for the session that id names, "" as long as it has no name.
func For(ctx context.Context, id func() string) context.Context {
	return context.WithValue(ctx, key{}, id)
}

// Session returns what names the session of a dial; one that has none is named "".
func Session(ctx context.Context) func() string {
	if id, ok := ctx.Value(key{}).(func() string); ok {
		return id
	}
	return func() string { return "" }
}
