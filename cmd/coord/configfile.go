package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/coord-kv/coord/internal/settings"
)

// valuesToSet reads the values from the command line, a file or standard input.
func (a *asking) valuesToSet(args []string, file string) (map[string]*string, error) {
	values := map[string]*string{}
	single := len(args) > 0 && !strings.Contains(args[0], "=")
	switch {
	case file != "" && len(args) == 0:
		text, err := a.file(file)
		if err != nil {
			return nil, err
		}
		all, err := parseValues(file, text)
		if err != nil {
			return nil, &exitError{
				code: exitUsage, err: fmt.Errorf("couldn't read the values in %s", file), why: err.Error(), next: a.c.CommandPath() + " --help",
			}
		}
		for key, value := range all {
			values[key] = &value
		}
	case file != "" && len(args) == 1 && single:
		text, err := a.file(file)
		if err != nil {
			return nil, err
		}
		value := string(text)
		values[args[0]] = &value
	case file != "":
		return nil, usageError(a.c, errors.New("-f takes the place of values; with one KEY, the file is its value"))
	case single && len(args) == 2:
		text, err := a.data(args)
		if err != nil {
			return nil, err
		}
		value := string(text)
		values[args[0]] = &value
	case len(args) == 0, single && len(args) == 1:
		return nil, usageError(a.c, errors.New(`the value is missing; "-" reads it from standard input, KEY= is an empty one`))
	default:
		for _, arg := range args {
			key, value, ok := strings.Cut(arg, "=")
			if !ok {
				return nil, usageError(a.c, fmt.Errorf("%q is not KEY=VALUE", arg))
			}
			if values[key] != nil {
				return nil, usageError(a.c, fmt.Errorf("the key %q is given twice", key))
			}
			values[key] = &value
		}
	}
	return values, a.checkValues(values)
}

func (a *asking) checkValues(values map[string]*string) error {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if err := settings.CheckApp(key); err != nil {
			return usageError(a.c, errors.New("key "+detail(err)))
		}
		if v := values[key]; v != nil && strings.ToValidUTF8(*v, "") != *v {
			return usageError(a.c, fmt.Errorf("the value of %q is not UTF-8 text", key))
		}
	}
	return nil
}

func (a *asking) file(name string) ([]byte, error) {
	if name == "-" {
		return a.stdin(maxValue)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, usageError(a.c, err)
	}
	defer f.Close()
	return a.readInput(name, f, maxValue)
}

// parseValues reads a mapping in YAML, of which JSON is a part, or assignments.
func parseValues(name string, text []byte) (map[string]string, error) {
	values := map[string]string{}
	if strings.HasSuffix(name, ".env") {
		return values, parseEnv(values, string(text))
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), "\n", " "))
	}
	if len(doc.Content) == 0 {
		return values, nil
	}
	return values, addYAML(values, "", doc.Content[0])
}

// addYAML adds the values of a mapping, as they are written.
func addYAML(values map[string]string, prefix string, n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: it must be a mapping of keys to values", n.Line)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, v := prefix+n.Content[i].Value, n.Content[i+1]
		switch {
		case n.Content[i].Kind != yaml.ScalarNode || n.Content[i].Tag == "!!merge":
			return fmt.Errorf("line %d: a key must be text", n.Content[i].Line)
		case v.Kind == yaml.MappingNode && len(v.Content) > 0:
			if err := addYAML(values, key+".", v); err != nil {
				return err
			}
			continue
		case v.Kind != yaml.ScalarNode || v.Tag == "!!null":
			return fmt.Errorf("line %d: the value of %q must be text, a number, true or false; a list is written as JSON in quotes", v.Line, key)
		}
		if _, twice := values[key]; twice {
			return fmt.Errorf("line %d: the key %q is there twice", v.Line, key)
		}
		values[key] = v.Value
	}
	return nil
}

// parseEnv reads lines NAME=value, where a value may stand in single quotes, as coord config get -o env writes them, or in
// double ones.
func parseEnv(values map[string]string, text string) error {
	for line := 1; text != ""; line++ {
		if before, rest, _ := strings.Cut(text, "\n"); strings.TrimSpace(before) == "" || strings.HasPrefix(strings.TrimSpace(before), "#") {
			text = rest
			continue
		}
		name, rest, ok := strings.Cut(text, "=")
		name = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(name), "export "))
		if !ok || name == "" || strings.ContainsAny(name, "\n \t") {
			return fmt.Errorf("line %d: it is not NAME=value", line)
		}
		if _, twice := values[name]; twice {
			return fmt.Errorf("line %d: %s is there twice", line, name)
		}
		value, left, err := envValue(rest)
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		line += strings.Count(text[:len(text)-len(left)], "\n") - 1
		values[name], text = value, left
	}
	return nil
}

// envValue reads a value up to the end of its line, and returns what is behind that.
func envValue(s string) (value, rest string, err error) {
	var b strings.Builder
	for s != "" && s[0] != '\n' {
		switch c := s[0]; c {
		case '\'', '"':
			in, after, ok := strings.Cut(s[1:], string(c))
			if !ok {
				return "", "", fmt.Errorf("the quote %c isn't closed", c)
			}
			b.WriteString(in)
			s = after
		case '\\':
			if len(s) < 2 {
				return "", "", errors.New("there is nothing behind the backslash")
			}
			b.WriteByte(s[1])
			s = s[2:]
		default:
			b.WriteByte(c)
			s = s[1:]
		}
	}
	return strings.TrimSuffix(b.String(), "\r"), strings.TrimPrefix(s, "\n"), nil
}
