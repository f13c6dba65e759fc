package scrub

import (
	"errors"
	"io"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A disk that is full of wrong bytes answers; one that gives nothing is gone.
func TestJudge(t *testing.T) {
	wrong := &chain.NodeError{Path: "a", Err: &ondisk.CheckError{}}
	silent := &chain.NodeError{Path: "a", Err: io.ErrUnexpectedEOF}
	var p Place
	for range 3 * goneAfter {
		if err := p.judge(wrong); err != nil {
			t.Fatalf("wrong bytes: %v", err)
		}
	}
	for range goneAfter - 1 {
		if err := p.judge(silent); err != nil {
			t.Fatalf("too early: %v", err)
		}
	}
	if err := p.judge(wrong); err != nil {
		t.Fatal(err)
	}
	for range goneAfter - 1 {
		if err := p.judge(silent); err != nil {
			t.Fatalf("it had answered in between: %v", err)
		}
	}
	if err := p.judge(silent); !errors.Is(err, errDevice) {
		t.Fatalf("%d blocks were not given: %v", goneAfter, err)
	}
}
