package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
)

// table is printed bit by bit, for people in columns or as Markdown.
type table struct {
	markdown bool
	columns  []string
	rows     [][]string
	notes    []string
	begun    bool
}

func newTable(markdown bool, columns ...string) *table {
	return &table{markdown: markdown, columns: columns}
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// flush prints the rows since the last time, and then the notes.
func (t *table) flush() {
	if t.markdown {
		t.flushMarkdown()
	} else {
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		for _, row := range append([][]string{t.columns}, t.rows...) {
			fmt.Fprintln(w, strings.Join(row, "\t"))
		}
		w.Flush()
		fmt.Println()
	}
	for _, n := range t.notes {
		fmt.Println("!", n)
	}
	t.rows, t.notes = nil, nil
}

func (t *table) flushMarkdown() {
	if !t.begun {
		t.begun = true
		fmt.Printf("| %s |\n|%s\n", strings.Join(t.columns, " | "), strings.Repeat("---|", len(t.columns)))
	}
	for _, row := range t.rows {
		fmt.Printf("| %s |\n", strings.Join(row, " | "))
	}
}
