package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/anvilfs/anvilfs/cmd/advice"
)

// A table is text in columns, each as wide as its widest cell.
type table struct {
	rows  [][]string
	width []int
}

func newTable(head ...string) *table {
	t := &table{}
	t.row(head...)
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		if i == len(t.width) {
			t.width = append(t.width, 0)
		}
		cells[i] = advice.Printable(c) // names may be in it
		t.width[i] = max(t.width[i], utf8.RuneCountInString(cells[i]))
	}
	t.rows = append(t.rows, cells)
}

// print writes the rows, without blanks at their ends.
func (t *table) print(w io.Writer) {
	for _, r := range t.rows {
		var b strings.Builder
		for i, c := range r {
			b.WriteString(c)
			b.WriteString(strings.Repeat(" ", t.width[i]-utf8.RuneCountInString(c)+2))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}
