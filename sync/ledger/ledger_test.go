package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

func damage(node string, inum uint64) cluster.Damage {
	return cluster.Damage{Node: node, Label: "HOME", Leaf: cluster.Leaf{Inum: inum, Key: 1 << 16, Kind: ondisk.TypeData}}
}

func open(t *testing.T, path string) *Ledger {
	t.Helper()
	l, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLedgerRemembers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "x.db")
	l := open(t, path)
	clock := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	l.now = func() time.Time { return clock }
	bad := errors.New("no copy")
	must(t, l.Found(damage("a", 2000), "/f", bad))
	must(t, l.Found(damage("a", 2000), "/f", bad))
	must(t, l.Found(damage("b", 2001), "/g", nil))
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a second opening: %v", err)
	}
	must(t, l.SaveJob("scrub", map[string]int{"at": 7}))
	if r := l.Report(); r.Bad != 1 {
		t.Errorf("%+v", r)
	}
	must(t, l.Close())
	l = open(t, path)
	if r := l.Report(); r.Bad != 1 {
		t.Errorf("opened again: %+v", r)
	}
	l.now = func() time.Time { return clock }
	list, err := l.List(false)
	must(t, err)
	if len(list) != 1 || list[0].Path != "/f" || list[0].Count != 2 || list[0].Tries != 2 || list[0].What != "no copy" ||
		!list[0].Next.Equal(clock.Add(2*time.Minute)) {
		t.Errorf("%+v", list)
	}
	if list, err = l.List(true); err != nil || len(list) != 2 || list[1].Repaired.IsZero() {
		t.Errorf("all: %+v, %v", list, err)
	}
	var at map[string]int
	if ok, err := l.LoadJob("scrub", &at); !ok || err != nil || at["at"] != 7 {
		t.Errorf("job: %v %v %v", ok, err, at)
	}
	if n, err := l.Clear(false); n != 1 || err != nil {
		t.Errorf("clear of what is repaired: %d, %v", n, err)
	}
	if n, err := l.Clear(true); n != 1 || err != nil {
		t.Errorf("clear: %d, %v", n, err)
	}
	must(t, l.Close())
}

// What differed is right again when a scrub did not find it any more, and not
// because it can be read.
func TestLedgerOfWhatDiffers(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "x.db"))
	clock := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	l.now = func() time.Time { return clock }
	gone, stays, bad := damage("a", 2000), damage("a", 2001), damage("a", 2002)
	gone.Differs, stays.Differs = true, true
	for _, d := range []cluster.Damage{gone, stays, bad} {
		must(t, l.Found(d, "/f", errors.New("tie")))
	}
	clock = clock.Add(time.Hour)
	began := clock
	clock = clock.Add(time.Hour)
	must(t, l.Found(stays, "/f", errors.New("tie")))
	must(t, l.Compared(began))
	list, err := l.List(false)
	must(t, err)
	if len(list) != 2 || list[0].Inum != 2001 || list[1].Inum != 2002 {
		t.Errorf("%+v", list)
	}
	must(t, l.Close())
}

func TestWaitDoubles(t *testing.T) {
	for tries, want := range map[int]time.Duration{1: time.Minute, 2: 2 * time.Minute, 5: 16 * time.Minute, 11: 1024 * time.Minute, 12: 24 * time.Hour, 1000: 24 * time.Hour} {
		if got := wait(tries); got != want {
			t.Errorf("after %d tries: %v, want %v", tries, got, want)
		}
	}
}

func TestRetrierTriesUntilItWorks(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "x.db"))
	must(t, l.Found(damage("a", 2000), "/f", errors.New("busy")))
	must(t, l.Found(damage("a", 2001), "/g", nil))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tries := make(chan cluster.Damage)
	fails := errors.New("still busy")
	r := NewRetrier(l, func(_ context.Context, d cluster.Damage) error {
		tries <- d
		return fails
	}, slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	for round := range 3 {
		if n, err := l.Retry(); n != 1 || err != nil {
			t.Fatalf("round %d: %d due, %v", round, n, err)
		}
		if round == 2 {
			fails = nil
		}
		r.Wake()
		if d := <-tries; d.Inum != 2000 {
			t.Errorf("round %d: tried %v", round, &d)
		}
		for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
			list, err := l.List(true)
			must(t, err)
			if e := list[0]; round < 2 && e.Tries == round+2 && e.Next.After(time.Now()) || round == 2 && !e.Repaired.IsZero() && e.What == "" {
				tick.Stop()
				break
			}
			must(t, ctx.Err())
		}
	}
	cancel()
	<-done
	must(t, l.Close())
}

// The report counts what the list shows, whatever happens.
func TestReportCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	l := open(t, path)
	rnd := rand.New(rand.NewPCG(1, 2))
	for step := range 400 {
		d := damage("a", 2000+rnd.Uint64N(6))
		d.Differs = rnd.IntN(2) == 0
		if rnd.IntN(4) == 0 {
			d.Leaf = cluster.HeaderLeaf(rnd.Uint64N(3) << 31)
		}
		var err error
		switch rnd.IntN(5) {
		case 0, 1:
			err = l.Found(d, "", []error{errors.New("bad"), fmt.Errorf("bad: %w", cluster.ErrElsewhere)}[rnd.IntN(2)])
		case 2:
			err = l.Found(d, "", nil)
		case 3:
			_, err = l.Clear(rnd.IntN(10) == 0)
		case 4:
			err = l.Compared(time.Now())
		}
		must(t, err)
		list, err := l.List(false)
		must(t, err)
		want := Report{Bad: int64(len(list))}
		for i := range list {
			if list[i].Header() {
				want.Headers++
			}
			if strings.HasSuffix(list[i].What, cluster.ErrElsewhere.Error()) {
				want.Other++
			}
		}
		if got := l.Report(); got != want {
			t.Fatalf("step %d: %+v, the list has %+v", step, got, want)
		}
		if step%100 == 99 { // what is counted at the opening
			must(t, l.Close())
			if l = open(t, path); l.Report() != want {
				t.Fatalf("step %d: %+v once opened anew, the list has %+v", step, l.Report(), want)
			}
		}
	}
	must(t, l.Close())
}

// What is bad on a node that was copied is due at once, and nothing else.
func TestRetryNode(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "x.db"))
	bad := errors.New("no copy")
	must(t, l.Found(damage("a", 2000), "/f", bad))
	must(t, l.Found(damage("b", 2001), "/g", bad))
	must(t, l.Found(damage("b", 2002), "/h", nil))
	n, err := l.RetryNode("b")
	must(t, err)
	list, _, err := l.due()
	must(t, err)
	if n != 1 || len(list) != 1 || list[0].Path != "/g" {
		t.Errorf("%d due now: %+v", n, list)
	}
	must(t, l.Close())
}

// What no node has right is one reason, wherever it was and whatever is wrong with
// each copy.
func TestReasonOfALostPlace(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "x.db"))
	for i, why := range []error{errors.New("m1: code of block 0x1000"), errors.New("m2: EIO")} {
		d := damage("a", 2000+uint64(i))
		must(t, l.Found(d, "/f", fmt.Errorf("%v: %w: %w: %w", &d, cluster.ErrNotRepaired, cluster.ErrNoGoodCopy, why)))
	}
	list, err := l.List(false)
	must(t, err)
	for _, e := range list {
		if e.What != "not repaired: no other node in sync has a good copy of it" {
			t.Errorf("inode %d: %q", e.Inum, e.What)
		}
	}
	if len(list) != 2 {
		t.Errorf("%+v", list)
	}
	must(t, l.Close())
}
