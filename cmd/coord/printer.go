package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"
)

// printer writes a command's data to standard output.
type printer struct {
	*bufio.Writer
	terminal bool
	colored  bool
}

func newPrinter(g *globals) *printer {
	p := &printer{Writer: bufio.NewWriter(g.io.out), terminal: isTerminal(g.io.out)}
	p.colored = g.color == "always" || g.color == "auto" && p.terminal && os.Getenv("NO_COLOR") == ""
	return p
}

// isTerminal reports whether a stream is a terminal: a character device that is not the null device.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// flush reports what could not be written: a full disk must not look like success.
func (p *printer) flush() error {
	if err := p.Flush(); err != nil {
		return &exitError{code: exitOther, err: fmt.Errorf("couldn't write to standard output"), why: err.Error(),
			next: "make room where it goes to; whatever the command was to change is changed"}
	}
	return nil
}

func (p *printer) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// json writes an answer as the server sent it, on one line.
func (p *printer) json(body []byte) {
	p.Write(bytes.TrimRight(body, "\n"))
	p.WriteByte('\n')
}

// encode writes v as JSON, on one line.
func (p *printer) encode(v any) error {
	e := json.NewEncoder(p)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table writes rows in columns. Cells must be plain text of one line.
func (p *printer) table(rows [][]string) {
	w := tabwriter.NewWriter(p, 0, 1, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
}

// Colours, by what they say.
const (
	good = "32"
	poor = "33"
	bad  = "31"
)

func (p *printer) color(how, s string) string {
	if !p.colored {
		return s
	}
	return "\x1b[" + how + "m" + s + "\x1b[0m"
}

// value writes a node's data for people: on a line of its own, if it is text, and without what would steer a terminal.
func (p *printer) value(data []byte) {
	if len(data) == 0 {
		return
	}
	if p.terminal && !printable(data) {
		p.line("%s", strconv.Quote(string(data)))
		return
	}
	p.Write(data)
	if data[len(data)-1] != '\n' {
		p.WriteByte('\n')
	}
}

// printable reports whether data can be shown on a terminal as it is.
func printable(data []byte) bool {
	return utf8.Valid(data) && !bytes.ContainsFunc(data, func(r rune) bool {
		return !unicode.IsPrint(r) && r != '\n' && r != '\t'
	})
}

// longestCell is how many bytes of a value a table shows.
const longestCell = 60

// cell returns a value as it stands in a line of a table.
func cell(data []byte) string {
	if data == nil {
		return "-"
	}
	s, more := string(data), ""
	if len(data) > longestCell {
		s, more = string(data[:longestCell]), fmt.Sprintf("… (%d bytes)", len(data))
	}
	return strconv.Quote(s) + more
}

// merge joins the pages of a listing into one JSON object: its array called name has the elements of all pages.
func merge(pages [][]byte, name string) (map[string]json.RawMessage, error) {
	var all []json.RawMessage
	var whole map[string]json.RawMessage
	for i, page := range pages {
		form := map[string]json.RawMessage{}
		if err := json.Unmarshal(page, &form); err != nil {
			return nil, err
		}
		var part []json.RawMessage
		if err := json.Unmarshal(form[name], &part); err != nil {
			return nil, err
		}
		all = append(all, part...)
		if i == 0 {
			whole = form
		}
	}
	delete(whole, "next")
	list, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	if all != nil {
		whole[name] = list
	}
	return whole, nil
}

// ask puts a question to the person at the terminal, and reports whether the answer was yes. Without a terminal there
// is nobody to ask, and the command line is taken to be meant.
func ask(io stdio, question string) bool {
	if !isTerminal(io.in) || !isTerminal(io.err) {
		return true
	}
	fmt.Fprintf(io.err, "%s [y/N] ", question)
	answer, _ := readLine(io.in)
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes")
}

func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 1024)).ReadString('\n')
	return strings.TrimSpace(line), err
}

// quoteJSON returns s as JSON.
func quoteJSON(s string) (json.RawMessage, error) { return json.Marshal(s) }
