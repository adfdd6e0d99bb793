package settings

import (
	"maps"
	"slices"
	"strings"

	"github.com/coord-kv/coord/op"
)

// Variable is a value as an environment has it.
type Variable struct{ Name, Key, Value string }

// Variables returns values as variables of an environment, by key: names in capitals, with an underscore for what a name
// can't have and in front of a digit. Two keys that become one variable, and what no environment can hold, are
// invalid_config.
func Variables(values map[string]string) ([]Variable, error) {
	keys := make(map[string]string, len(values)) // by name
	var all []Variable
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name := variableName(key)
		if other, taken := keys[name]; taken {
			return nil, op.Errorf(op.InvalidConfig, "%q and %q are the same variable %s in an environment", other, key, name)
		}
		if strings.ContainsRune(values[key], 0) {
			return nil, op.Errorf(op.InvalidConfig, "the value of %q has a zero byte, which no environment can hold", key)
		}
		keys[name] = key
		all = append(all, Variable{name, key, values[key]})
	}
	return all, nil
}

func variableName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		}
		return '_'
	}, key)
	if name[0] >= '0' && name[0] <= '9' {
		return "_" + name
	}
	return name
}

// Assignments writes variables as a shell reads them: NAME='value', a line each.
func Assignments(list []Variable) []byte {
	var b []byte
	for _, v := range list {
		b = append(append(b, v.Name...), "='"...)
		b = append(append(b, strings.ReplaceAll(v.Value, "'", `'\''`)...), "'\n"...)
	}
	return b
}

// YAML writes values as a mapping of strings; a JSON string is one of YAML.
func YAML(values map[string]string) []byte {
	if len(values) == 0 {
		return []byte("{}\n")
	}
	var b []byte
	for _, key := range slices.Sorted(maps.Keys(values)) {
		b = append(append(b, encode(key)...), ": "...)
		b = append(append(b, encode(values[key])...), '\n')
	}
	return b
}
