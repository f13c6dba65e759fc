package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/sync/ledger"
)

// printErrors lists what is bad by path, and below each path where, so that a line
// fits a terminal; the reasons, which many have in common, come last.
func printErrors(w io.Writer, list []ledger.Entry, dir string) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "nothing is known to be bad")
		return err
	}
	var paths, why []string
	rows := make(map[string][][]string) // by path
	t := newTable("  NODE", "OFFSET", "SEEN", "LAST", "NEXT TRY", "STATE")
	for i := range list {
		e := &list[i]
		path := errorPath(e)
		if rows[path] == nil {
			paths = append(paths, path)
		}
		row := []string{"  " + advice.Printable(e.Node), errorPlace(e), strconv.FormatInt(e.Count, 10), minute(e.Last), minute(e.Next), errorState(e)}
		rows[path] = append(rows[path], row)
		if reason := advice.Printable(advice.Typed(e.What, dir, e.Node)); e.Repaired.IsZero() && !slices.Contains(why, reason) {
			why = append(why, reason)
		}
	}
	heads := make(map[int]string) // paths, by the row that they stand before
	for _, p := range paths {
		heads[len(t.rows)] = p
		for _, r := range rows[p] {
			t.row(r...)
		}
	}
	var b strings.Builder
	t.print(&b)
	n := 0
	for line := range strings.Lines(b.String()) {
		if p, ok := heads[n]; ok {
			fmt.Fprintln(w, p)
		}
		fmt.Fprint(w, line)
		n++
	}
	if len(why) > 0 {
		fmt.Fprintln(w, "why")
	}
	for _, reason := range why {
		fmt.Fprint(w, folded("  ", reason))
	}
	return nil
}

// folded breaks a sentence into lines of a terminal.
func folded(indent, text string) string {
	var b strings.Builder
	width := 0
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case width == 0:
			b.WriteString(indent)
			width = len(indent)
		case width+1+n > 79:
			b.WriteString("\n" + indent + "  ")
			width = len(indent) + 2
		default:
			b.WriteString(" ")
			width++
		}
		b.WriteString(word)
		width += n
	}
	return b.String() + "\n"
}

// errorPath is the file.
func errorPath(e *ledger.Entry) string {
	if e.Label != "" && strings.HasPrefix(e.Path, "inode ") {
		return advice.Printable(e.Path + " of " + e.Label)
	}
	return advice.Printable(e.Path)
}

// errorPlace is where in the file it is bad.
func errorPlace(e *ledger.Entry) string {
	switch e.Kind {
	case ondisk.TypeData:
		return strconv.FormatUint(e.Key, 10)
	case ondisk.TypeDirent:
		return "name"
	case ondisk.TypeInode:
		return "inode"
	case ondisk.TypeIndirect:
		return "table"
	}
	if e.Damage.Header() {
		return "header"
	}
	return "root"
}

func errorState(e *ledger.Entry) string {
	switch {
	case !e.Repaired.IsZero():
		return "repaired"
	case e.Differs:
		return "differs"
	}
	return "unreadable"
}

// minute is a time of this year or so; - if there is none.
func minute(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("01-02 15:04")
}
