package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

const bytesTogether = 512 // reach media together

// state is what a ledger holds: how often each entry was seen, and the job.
func state(t *testing.T, l *Ledger) string {
	t.Helper()
	list, err := l.List(true)
	must(t, err)
	seen := map[uint64]int64{}
	for i := range list {
		seen[list[i].Inum] = list[i].Count
	}
	job := 0
	if _, err := l.LoadJob("scrub", &job); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(seen, " job ", job)
}

// history returns the file as it was made and after each of n changes, and what
// it then held.
func history(t *testing.T, n int) (images [][]byte, states []string) {
	t.Helper()
	path := filepath.Join(memoryDir(t), "x.db")
	change(t, path, n, func(state string) {
		img, err := os.ReadFile(path)
		must(t, err)
		images, states = append(images, img), append(states, state)
	})
	return images, states
}

// change makes a ledger and changes it n times. It tells each time what that holds.
func change(t *testing.T, path string, n int, tell func(state string)) {
	t.Helper()
	l := open(t, path)
	clock := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	l.now = func() time.Time { return clock }
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range n + 1 {
		switch {
		case i == 0:
		case i%5 == 4:
			must(t, l.SaveJob("scrub", i))
		case i%17 == 16:
			_, err := l.Clear(false)
			must(t, err)
		default:
			err := errors.New("bad" + strings.Repeat("!", rnd.IntN(3000)))
			if rnd.IntN(3) == 0 {
				err = nil
			}
			must(t, l.Found(damage("a", 2000+rnd.Uint64N(40)), "/f", err))
		}
		tell(state(t, l))
	}
	must(t, l.Close())
}

// reopened opens what is left of a file, uses it, and returns what it held, and
// the log.
func reopened(t *testing.T, dir string, img []byte) (held, log string) {
	t.Helper()
	path := filepath.Join(dir, "x.db")
	must(t, os.WriteFile(path, img, 0o600))
	var buf bytes.Buffer
	l, err := Open(path, Options{Log: slog.New(slog.NewTextHandler(&buf, nil))})
	must(t, err)
	held = state(t, l)
	must(t, l.Found(damage("new", 1), "/new", errors.New("bad")))
	must(t, l.SaveJob("scrub", 7))
	if got := state(t, l); !strings.Contains(got, " 1:1") && !strings.Contains(got, "[1:1") || !strings.HasSuffix(got, "job 7") {
		t.Fatalf("after use: %s", got)
	}
	must(t, l.Close())
	return held, buf.String()
}

// torn returns a file between two images: of the sectors where they differ,
// those that keep picks.
func torn(before, after []byte, keep func(at int) bool) []byte {
	img := append(bytes.Clone(before), make([]byte, max(0, len(after)-len(before)))...)
	for at := 0; at < len(after); at += bytesTogether {
		if sector := after[at : at+bytesTogether]; !bytes.Equal(img[at:at+bytesTogether], sector) && keep(at) {
			copy(img[at:], sector)
		}
	}
	return img
}

// A disk that lies about flushes leaves something that can be used.
func TestLedgerLyingDisk(t *testing.T) {
	dir := memoryDir(t)
	images, _ := history(t, 40)
	rnd := rand.New(rand.NewPCG(5, 6))
	aside := 0
	for i := range len(images) - 1 {
		lied := torn(images[i], images[i+1], func(at int) bool { return rnd.IntN(2) == 0 })
		if _, log := reopened(t, dir, lied); log != "" {
			aside++
		}
	}
	if aside == 0 {
		t.Error("no flush that was left out was noticed")
	}
	t.Log(aside, "put aside after a lie")
}

// Whatever became of the file, the mount goes on and is told.
func TestLedgerDamaged(t *testing.T) {
	dir := memoryDir(t)
	images, states := history(t, 40)
	img, want := images[len(images)-1], states[len(states)-1]
	rnd := rand.New(rand.NewPCG(7, 8))
	spoil := map[string]func(p []byte) []byte{
		"cut off":  func(p []byte) []byte { return p[:1+rnd.IntN(len(p)-1)] },
		"zeroes":   func(p []byte) []byte { clear(p); return p },
		"a hole":   func(p []byte) []byte { at := rnd.IntN(len(p)); clear(p[at:min(at+4096, len(p))]); return p },
		"flipped":  func(p []byte) []byte { p[rnd.IntN(len(p))] ^= 1 << rnd.IntN(8); return p },
		"its head": func(p []byte) []byte { p[rnd.IntN(128)] ^= 1 << rnd.IntN(8); return p },
		"of pages": func(p []byte) []byte {
			p[os.Getpagesize()*rnd.IntN(len(p)/os.Getpagesize())+rnd.IntN(64)] = byte(rnd.Int())
			return p
		},
		"garbage": func(p []byte) []byte { return garbage(rnd, p[:rnd.IntN(len(p))]) },
	}
	lost := map[string]int{}
	for _, name := range []string{"cut off", "zeroes", "a hole", "flipped", "its head", "of pages", "garbage"} {
		for range 25 {
			held, log := reopened(t, dir, spoil[name](bytes.Clone(img)))
			if log != "" {
				lost[name]++
				for _, part := range []string{"is lost", "x.db.damaged", "anvilfs scrub start"} {
					if !strings.Contains(log, part) {
						t.Fatalf("%s: the log does not say %q: %s", name, part, log)
					}
				}
			} else if name == "zeroes" && held == want {
				t.Fatalf("%s: still %s", name, held)
			}
		}
	}
	t.Log(lost)
	for _, name := range []string{"cut off", "zeroes", "of pages", "garbage"} {
		if lost[name] == 0 {
			t.Errorf("%s was never noticed", name)
		}
	}
}

func garbage(rnd *rand.Rand, p []byte) []byte {
	for i := range p {
		p[i] = byte(rnd.Int())
	}
	return p
}

// A file that a person named is that person's.
func TestLedgerOfSomethingElse(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "letter")
	must(t, os.WriteFile(text, []byte(strings.Repeat("dear reader, ", 1000)), 0o600))
	other := filepath.Join(dir, "other.db")
	db, err := bbolt.Open(other, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("images")); return err }))
	must(t, db.Close())
	for path, want := range map[string]string{
		text: "move it away", other: `"images"`, dir: "no ledger", "/dev/zero": "no ledger",
		filepath.Join(text, "x.db"): "not a directory", filepath.Join(dir, "nope", "x.db"): "no such file",
	} {
		before, _ := os.ReadFile(text)
		_, err := Open(path, Options{Named: true})
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
		if after, _ := os.ReadFile(text); !bytes.Equal(before, after) {
			t.Errorf("%s: it was changed", path)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "nope")); err == nil {
		t.Error("a directory that a person named was made")
	}
	l := open(t, filepath.Join(dir, "mine.db"))
	if _, err := Open(filepath.Join(dir, "mine.db"), Options{}); !errors.Is(err, ErrBusy) {
		t.Errorf("opened twice: %v", err)
	}
	must(t, l.Close())
}

// A disk that does not answer holds no mount up.
func TestLedgerOpensInTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan bool)
		late := make(chan *Ledger, 1)
		l, err := inTime(func() (*Ledger, error) {
			<-answers
			l, err := openSound(path, false)
			late <- l
			return l, err
		})
		if l != nil || err == nil || !strings.Contains(err.Error(), "state=FILE") {
			t.Errorf("%v, %v", l, err)
		}
		close(answers)
		l = <-late
		synctest.Wait()
		if err := l.Found(damage("a", 1), "", nil); !errors.Is(err, bbolt.ErrDatabaseNotOpen) {
			t.Errorf("opened late, it is not closed: %v", err)
		}
	})
}

// What bbolt panics at ends the ledger only.
func TestLedgerSurvivesPanic(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "x.db"))
	err := l.read(func(*bbolt.Tx) error { panic("page 7") })
	if !errors.Is(err, errDamaged) {
		t.Errorf("%v", err)
	}
	if err := l.Found(damage("a", 1), "", nil); !errors.Is(err, errDamaged) || !strings.Contains(l.Report().Err, "page 7") {
		t.Errorf("after it: %v, %+v", err, l.Report())
	}
	must(t, l.Close())
}

// The disk ends the file while it is mapped.
func TestLedgerSurvivesFault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	l := open(t, path)
	for i := range uint64(100) {
		must(t, l.Found(damage("a", i), "/f", errors.New("bad")))
	}
	must(t, os.Truncate(path, int64(os.Getpagesize())))
	if _, err := l.List(true); !errors.Is(err, errDamaged) {
		t.Errorf("%v", err)
	}
	must(t, l.Close())
}

// What failed is not counted, and all that is to go goes.
func TestLedgerCounts(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "x.db"))
	defer l.Close()
	if err := l.Found(damage(strings.Repeat("n", bbolt.MaxKeySize), 1), "/f", errors.New("bad")); err == nil || l.count != 0 || l.Report().Bad != 0 {
		t.Errorf("%v: %d entries, %d bad", err, l.count, l.Report().Bad)
	}
	for i := range uint64(300) {
		must(t, l.Found(damage("a", i), "/f", nil))
	}
	if n, err := l.Clear(false); n != 300 || err != nil || l.count != 0 {
		list, _ := l.List(true)
		t.Errorf("%d forgotten, %v; %d counted, %d left", n, err, l.count, len(list))
	}
}

// A page that is in use is not given away.
func TestLedgerFreePageInUse(t *testing.T) {
	images, _ := history(t, 20)
	img := images[len(images)-1]
	m, err := newest(bytes.NewReader(img))
	must(t, err)
	if _, err := sound(bytes.NewReader(img), int64(len(img))); err != nil {
		t.Fatal(err)
	}
	list := img[int64(m.freelist)*m.page:]
	if order.Uint16(list[10:]) == 0 {
		t.Fatal("no page is free")
	}
	order.PutUint64(list[pageHead:], m.root)
	if _, err := sound(bytes.NewReader(img), int64(len(img))); !errors.Is(err, errDamaged) {
		t.Errorf("%v", err)
	}
}
