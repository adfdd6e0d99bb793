package op

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A time has three digits of its second, whatever they are, and is read back as it was.
func TestTimeText(t *testing.T) {
	first, last := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).UnixMilli()
	rapid.Check(t, func(t *rapid.T) {
		want := Time(rapid.Int64Range(first, last).Draw(t, "ms"))
		text := string(want.Append([]byte("at ")))
		if std := "at " + want.Std().Format("2006-01-02T15:04:05.000Z07:00"); text != std {
			t.Fatalf("%d is %s, want %s", want, text, std)
		}
		var got Time
		if err := got.UnmarshalText([]byte(text[3:])); err != nil || got != want {
			t.Fatalf("%s is read as %d, want %d; %v", text, got, want, err)
		}
	})
}

// Any time has a text, even one of a year that RFC 3339 can't have.
func TestTimeTextOfAnyYear(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := Time(rapid.Int64().Draw(t, "ms"))
		if text, std := string(at.Append(nil)), at.Std().Format("2006-01-02T15:04:05.000Z07:00"); text != std {
			t.Fatalf("%d is %s, want %s", at, text, std)
		}
	})
}
