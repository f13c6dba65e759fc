package scrub

import (
	"errors"
	"io"
	"testing"
	"time"

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

// Symptom: after a restart, and where a lane had ended early, a scrub told of a
// speed and an end that were not to be believed.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		name        string
		p           Place
		tranquility int
		rate, left  float64
	}{
		{"just begun", Place{}, 2, 0, -1},
		{"before the first rest", Place{Worked: time.Second, Report: LaneReport{Bytes: 100, Total: 300}}, 2, 100, 6},
		{"it rests more than it was told", Place{Worked: 2 * time.Second, Rested: 10 * time.Second, Report: LaneReport{Bytes: 200, Total: 300}}, 2, 100, 6},
		{"more than was thought", Place{Worked: time.Second, Report: LaneReport{Bytes: 300, Total: 200}}, 0, 300, -1},
		{"done", Place{Worked: time.Second, Done: true, Report: LaneReport{Bytes: 100, Total: 300}}, 0, 100, -1},
		{"left", Place{Worked: time.Second, Report: LaneReport{Bytes: 100, Total: 300, Err: "not in sync"}}, 0, 100, -1},
	} {
		if rate, left := c.p.pace(c.tranquility); rate != c.rate || left != c.left {
			t.Errorf("%s: %v B/s, %v s to go, want %v, %v", c.name, rate, left, c.rate, c.left)
		}
	}
}
