package cluster

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// An abandoned pool loses what was not durable, as a crash does, and nobody
// who waits for it waits for ever.
func TestAbandon(t *testing.T) {
	dev := formatted(t, 256<<20)
	p, e := openFake(t, Options{Commit: time.Hour}, dev)
	f := makeFile(t, p, 1, "safe", ondisk.ObjFile)
	write(t, p, f, 0, []byte("kept"))
	mustSync(t, p)
	commits := e.commits
	write(t, p, f, 0, []byte("lost"))
	p.Abandon()
	p.Abandon() // once more does nothing
	if _, err := p.Begin(bg, Cost{}); !errors.Is(err, ErrPoolClosed) {
		t.Errorf("begin: %v", err)
	}
	if err := p.Sync(bg); !errors.Is(err, ErrPoolClosed) {
		t.Errorf("sync: %v", err)
	}
	if s := p.Status(); !s.ShutDown || s.CommitError != ErrShutDown.Error() {
		t.Errorf("status: %v %q", s.ShutDown, s.CommitError)
	}
	closePool(t, p)
	if e.commits != commits {
		t.Errorf("%d commits came after", e.commits-commits)
	}
	dev.Reopen()
	p, _ = openFake(t, Options{}, dev)
	defer closePool(t, p)
	if got := readAll(t, p, f, 4); string(got) != "kept" {
		t.Errorf("read %q afterwards", got)
	}
}

// A waiter for a commit that fails again and again is let go.
func TestAbandonWakesWaiters(t *testing.T) {
	p, e := openFake(t, Options{Commit: time.Hour}, formatted(t, 256<<20))
	makeFile(t, p, 1, "a", ondisk.ObjFile)
	e.set(func() { e.slow = time.Hour })
	done := make(chan error, 1)
	go func() { done <- p.Sync(bg) }()
	for p.state.Load().syncing == nil {
		changed := *p.viewsCh.Load() // before what changes it: a busy machine may be late
		time.AfterFunc(time.Millisecond, func() { p.viewsChanged() })
		<-changed
	}
	p.Abandon()
	if err := <-done; !errors.Is(err, ErrPoolClosed) {
		t.Errorf("sync: %v", err)
	}
}

func TestTrimMembers(t *testing.T) {
	deaf := fmt.Errorf("no such request: %w", errors.ErrUnsupported)
	for _, c := range []struct {
		name   string
		errs   []error // of the members' devices
		fails  error
		nowork bool
	}{
		{"all", []error{nil, nil, nil}, nil, false},
		{"some take no such news", []error{deaf, nil, deaf}, nil, false},
		{"none does", []error{deaf, deaf, deaf}, errors.ErrUnsupported, true},
		{"one fails", []error{nil, faultdev.ErrFault, nil}, faultdev.ErrFault, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := &engine{}
			for _, err := range c.errs {
				fault := faultdev.New(formatted(t, 256<<20))
				if err != nil {
					fault.Add(faultdev.Rule{On: faultdev.Discard, Times: faultdev.Always, Err: err})
				}
				v, err := chain.Open(bg, []ondisk.Device{fault}, chain.Options{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { v.Close() })
				e.pub.members = append(e.pub.members, memberView{conn: &conn{Media: &Media{vol: v}}})
			}
			n, err := e.trim(bg, chain.TrimOptions{})
			if !errors.Is(err, c.fails) || (c.fails == nil) != (err == nil) {
				t.Errorf("error %v, want %v", err, c.fails)
			}
			if c.nowork != (n == 0) {
				t.Errorf("%d bytes", n)
			}
		})
	}
}
