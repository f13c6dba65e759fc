package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/anvilfs/anvilfs/cmd/advice"
)

// readyFD is the descriptor on which the serving process tells its parent
// how the mount went, in lines: "note TEXT" any number of times, then "ok" or
// "error TEXT".
const readyFD = 3

// A readiness is the serving process's end; without a parent it prints notes.
type readiness struct{ pipe *os.File }

func newReadiness(child bool) *readiness {
	if !child {
		return &readiness{}
	}
	return &readiness{os.NewFile(readyFD, "ready")}
}

func (r *readiness) note(text string) {
	if r.pipe != nil {
		fmt.Fprintf(r.pipe, "note %s\n", oneLine(text))
	} else {
		fmt.Fprintln(advice.Lines(os.Stderr), "anvilfs:", text)
	}
}

// ok lets the parent go.
func (r *readiness) ok() { r.last("ok") }

// failed hands the reason to the parent, and reports whether there was one.
func (r *readiness) failed(err error) bool {
	if r.pipe == nil {
		return false
	}
	r.last("error " + oneLine(err.Error()))
	return true
}

func (r *readiness) last(line string) {
	if r.pipe != nil {
		fmt.Fprintln(r.pipe, line)
		_ = r.pipe.Close()
		r.pipe = nil
	}
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", "; ") }

// said is what the serving process told.
type said struct {
	notes  []string
	ok     bool
	reason string
}

// waitReady reads until the word is final or the process is gone.
func waitReady(r io.Reader) (said, error) {
	var s said
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		word, text, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "note":
			s.notes = append(s.notes, text)
		case "ok":
			s.ok = true
			return s, nil
		case "error":
			s.reason = text
			return s, nil
		}
	}
	return s, lines.Err()
}
