package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/coord-kv/coord/internal/near"
)

// maxFile is the longest file that is read, in bytes.
const maxFile = 1 << 20

// file is what a file gives: one setting a key.
type file struct {
	name     string
	settings []setting
}

// setting is one key with its value in the form in which a flag would have it.
type setting struct {
	key, value string
	line       int
}

// Mistake is one thing that is wrong with a configuration.
type Mistake struct {
	Where string // file:line, a flag or a variable
	What  string
}

func (m Mistake) String() string { return m.Where + ": " + m.What }

// Error is what is wrong with a configuration, all of it: who mends one mistake should not have to try again to hear of
// the next. It has at least one.
type Error struct{ Mistakes []Mistake }

// maxMistakes is how many an Error lists.
const maxMistakes = 20

func (e *Error) Error() string {
	var lines []string
	for i, m := range e.Mistakes {
		if i == maxMistakes {
			lines = append(lines, fmt.Sprintf("and %d more", len(e.Mistakes)-i))
			break
		}
		lines = append(lines, m.String())
	}
	return strings.Join(lines, "\n")
}

// CheckFile reads a configuration file and returns what is wrong with it, as an *Error, and the required options that it
// leaves to flags and the environment.
func CheckFile(name string) (missing []string, err error) {
	f, err := readFile(name)
	if err != nil {
		return nil, err
	}
	c := New()
	c.apply(f)
	return c.missing(), c.check()
}

func readFile(name string) (*file, error) {
	text, err := readText(name)
	if err != nil {
		return nil, &Error{[]Mistake{{name, err.Error()}}}
	}
	return parseFile(name, text)
}

// readText reads a file that must be a regular one: a pipe or a device could block the start, or never end.
func readText(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	if err != nil {
		return nil, plain(err)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, plain(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, plain(err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("it has more than %s", showSize(maxFile))
	}
	return text, nil
}

// plain is the reason alone: the message has the name already.
func plain(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// parseFile reads the text of a file, every value of which it checks. The document is never decoded into Go values, so that
// an alias is refused before it can grow.
func parseFile(name string, text []byte) (*file, error) {
	p := &parser{file: &file{name: name}, options: New().Options()}
	if at := invalid(text); at >= 0 {
		p.add(1+bytes.Count(text[:at], []byte("\n")), "it is not UTF-8")
		return nil, p.err()
	}
	in := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	switch err := in.Decode(&doc); {
	case err == io.EOF:
		return p.file, nil // nothing but comments
	case err != nil:
		p.syntax(err)
		return nil, p.err()
	}
	p.document(&doc)
	if err := in.Decode(&second); err == nil {
		p.add(second.Line, "a second document begins here; a file has one")
	} else if err != io.EOF {
		p.syntax(err)
	}
	return p.file, p.err()
}

// invalid returns where text stops being UTF-8, -1 if it is all of it.
func invalid(text []byte) int {
	for at := 0; at < len(text); {
		r, n := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && n <= 1 {
			return at
		}
		at += n
	}
	return -1
}

// parser reads one document. It checks values by setting options that belong to nobody.
type parser struct {
	file     *file
	options  []Option
	mistakes []Mistake
}

func (p *parser) add(line int, format string, args ...any) {
	p.mistakes = append(p.mistakes, Mistake{fmt.Sprintf("%s:%d", p.file.name, line), fmt.Sprintf(format, args...)})
}

func (p *parser) err() error {
	if len(p.mistakes) == 0 {
		return nil
	}
	return &Error{p.mistakes}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntax reports text that is not YAML.
func (p *parser) syntax(err error) {
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		m = []string{"", ""}
	}
	line, _ := strconv.Atoi(m[1])
	what := "it is not YAML: " + strings.TrimPrefix(err.Error(), m[0])
	if line == 0 {
		p.mistakes = append(p.mistakes, Mistake{p.file.name, what})
		return
	}
	p.add(line, "%s", what)
}

func (p *parser) document(doc *yaml.Node) {
	root := doc
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		root = doc.Content[0]
	}
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return
	}
	if root.Kind != yaml.MappingNode {
		p.add(root.Line, "it must be lines of the form key: value")
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(root.Content) && len(p.mistakes) <= maxMistakes; i += 2 {
		p.pair(root.Content[i], root.Content[i+1], first)
	}
}

func (p *parser) pair(key, value *yaml.Node, first map[string]int) {
	if key.Kind != yaml.ScalarNode || key.Tag != "!!str" || key.Anchor != "" {
		p.add(key.Line, "a key must be the name of an option")
		return
	}
	i := slices.IndexFunc(p.options, func(o Option) bool { return o.Name == key.Value && !o.FlagOnly })
	if i < 0 {
		p.add(key.Line, "%s", p.unknown(key.Value))
		return
	}
	if line := first[key.Value]; line != 0 {
		p.add(key.Line, "%s is given again; line %d has it already", key.Value, line)
		return
	}
	first[key.Value] = key.Line
	text, err := flagForm(p.options[i], value)
	if err == nil && len(text) > maxText {
		err = fmt.Errorf("has %d bytes; at most %d are allowed", len(text), maxText)
	}
	if err == nil {
		err = p.options[i].Value.Set(text)
	}
	if err != nil {
		p.add(value.Line, "%s %v", key.Value, err)
		return
	}
	p.file.settings = append(p.file.settings, setting{key.Value, text, key.Line})
}

// flagForm returns a value as a flag would have it: a list with commas, a mapping as name=value.
func flagForm(o Option, n *yaml.Node) (string, error) {
	kind := o.Value.Type()
	switch {
	case n.Anchor != "" || n.Kind == yaml.AliasNode:
		return "", errors.New("uses an anchor or an alias, which are not allowed here")
	case n.Kind == yaml.ScalarNode:
		return scalar(o, n)
	case n.Kind == yaml.SequenceNode && kind == "list":
		return joined(o, n.Content, 1)
	case n.Kind == yaml.MappingNode && kind == "members":
		return joined(o, n.Content, 2)
	case kind == "members":
		return "", errors.New("must be a mapping of names to addresses, or text such as n1=host:port,n2=host:port")
	}
	return "", fmt.Errorf("must be one %s", kind)
}

// joined makes one text of the elements, each of so many nodes.
func joined(o Option, nodes []*yaml.Node, each int) (string, error) {
	var parts []string
	for i := 0; i+each <= len(nodes); i += each {
		var words []string
		for _, n := range nodes[i : i+each] {
			s, err := scalar(o, n)
			if err == nil && strings.ContainsAny(s, ",=") {
				err = fmt.Errorf("has %q, and an element can't contain a comma or an equals sign", s)
			}
			if err != nil {
				return "", err
			}
			words = append(words, s)
		}
		parts = append(parts, strings.Join(words, "="))
	}
	return strings.Join(parts, ","), nil
}

// scalar returns the text of a single value of the right type. What YAML takes for a number where text is due is refused:
// 1e3, 0x10 and 1_000 are numbers to it, and would come out otherwise than they were written.
func scalar(o Option, n *yaml.Node) (string, error) {
	kind := o.Value.Type()
	switch {
	case n.Kind != yaml.ScalarNode || n.Anchor != "":
		return "", errors.New("has an element that is not a single value")
	case n.Tag == "!!null":
		return "", errors.New("has no value; leave the key out for the default")
	case kind == "int" && n.Tag != "!!int":
		return "", fmt.Errorf("%q must be a number, without quotes", short(n.Value))
	case n.Tag == "!!str", kind == "int":
		return n.Value, nil
	case n.Tag == "!!int" && (kind == "duration" || kind == "size"):
		return n.Value, nil // the type asks for the unit
	}
	return "", fmt.Errorf("%q must be text: put it into quotes", short(n.Value))
}

// unknown says that there is no such key, and which one may be meant.
func (p *parser) unknown(key string) string {
	var names []string
	for _, o := range p.options {
		if !o.FlagOnly {
			names = append(names, o.Name)
		}
	}
	if best := near.Nearest(strings.ToLower(strings.ReplaceAll(key, "_", "-")), names); best != "" {
		return fmt.Sprintf("there is no option %q; did you mean %s?", short(key), best)
	}
	return fmt.Sprintf("there is no option %q; `coord serve --help` lists all", short(key))
}

func short(s string) string {
	if r := []rune(s); len(r) > 64 {
		return string(r[:64]) + "…"
	}
	return s
}
