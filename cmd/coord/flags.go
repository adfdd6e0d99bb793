package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/coord-kv/coord/internal/near"
)

// wanted says what a flag takes, by the name of its type.
var wanted = map[string]string{
	"bool":     "true or false",
	"duration": "a duration, such as 30s or 1h30m",
	"int":      "a whole number",
	"int64":    "a whole number",
	"uint64":   "a whole number, 0 or more",
}

// flagError is the usage error about a flag, in words of this command rather than of the package that reads flags.
func flagError(c *cobra.Command, err error) error {
	e := usageError(c, err).(*exitError)
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		f := bad.GetFlag()
		if want := wants(f.Value.Type(), bad.Unwrap()); want != "" {
			e.err = fmt.Errorf("--%s %q: it is %s", f.Name, bad.GetValue(), want)
		}
	}
	if meant := meantFlag(c, err); meant != "" {
		e.why = "did you mean --" + meant + "?"
	}
	return e
}

// wants says what a flag of that type takes, when the library found that its value isn't that; "" for the errors of flags
// that check their values themselves, which say more.
func wants(kind string, err error) string {
	_, number := errors.AsType[*strconv.NumError](err)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return "a number that isn't so large"
	case number, strings.HasPrefix(err.Error(), "time: "):
		return wanted[kind]
	}
	return ""
}

// meantFlag returns the flag of c that is nearly called as one that c doesn't have, "" if there is none.
func meantFlag(c *cobra.Command, err error) string {
	none, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || none.GetSpecifiedShortnames() != "" {
		return ""
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return near.Nearest(none.GetSpecifiedName(), names)
}

// dashError is flagError for a command whose arguments may begin with a dash, and look like flags then:
// help says what to do about that.
func dashError(c *cobra.Command, err error, help string) error {
	e := flagError(c, err).(*exitError)
	if _, ok := errors.AsType[*pflag.NotExistError](err); ok && meantFlag(c, err) == "" {
		e.why = help
	}
	return e
}
