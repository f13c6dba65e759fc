package histories

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/tests/bar"
)

// atOnce is how many games are played side by side: they mostly wait.
const atOnce = 16

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// size is of volumes with several header slots on even seeds, else with one.
func size(seed uint64) int64 {
	if seed%2 == 0 {
		return 5 << 30
	}
	return 256 << 20
}

var fresh = [2]func() (*rig.World, error){
	sync.OnceValues(func() (*rig.World, error) { return rig.New(context.Background(), 3, 1, size(0)) }),
	sync.OnceValues(func() (*rig.World, error) { return rig.New(context.Background(), 3, 1, size(1)) }),
}

// play makes the history of a seed.
func play(t *testing.T, seed uint64, wrap func(fs.Store) fs.Store, judge func(*testing.T, *game)) {
	w, err := fresh[seed%2]()
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for f := range files {
		for b := range blocks {
			parts = append(parts, blockPart(f, b))
		}
	}
	for d := range dirs {
		parts = append(parts, dirPart(d))
	}
	g := &game{t: t, seed: seed, w: w.Clone(), rec: newRecorder(parts...), wrap: wrap, began: time.Now()}
	g.play()
	judge(t, g)
}

func TestHistories(t *testing.T) {
	goal := bar.Goal{What: "histories of the filesystem core", Quick: 10, Test: 300, Nightly: 20_000}
	n, first := goal.N(t), uint64(0)
	only := os.Getenv("ANVILFS_SEED")
	if only != "" {
		seed, err := strconv.ParseUint(only, 10, 64)
		if err != nil {
			t.Fatalf("ANVILFS_SEED: %v", err)
		}
		n, first = 1, seed
	}
	began := time.Now()
	var done, calls atomic.Int64
	t.Run("seeds", func(t *testing.T) {
		for i := range n {
			seed := first + uint64(i)
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				if goal.Over(t, began, i) {
					return
				}
				play(t, seed, nil, func(t *testing.T, g *game) {
					if err := g.rec.verdict(); err != nil {
						g.fatal("%v", err)
					}
					calls.Add(int64(g.rec.calls))
				})
				if !t.Failed() {
					done.Add(1)
				}
			})
		}
	})
	t.Logf("%d calls", calls.Load())
	if only == "" {
		goal.Check(t, int(done.Load()))
	}
}

// A store that lies is found out by the same games.
func TestLiesAreSeen(t *testing.T) {
	for name, wrap := range map[string]func(fs.Store) fs.Store{
		"stale reads":  func(s fs.Store) fs.Store { return &stale{Store: s, old: make(map[uint64][]byte)} },
		"a lost name":  func(s fs.Store) fs.Store { return &blind{Store: s} },
		"a lost write": func(s fs.Store) fs.Store { return &lossy{Store: s} },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(5) {
				var err error
				play(t, seed, wrap, func(_ *testing.T, g *game) { err = g.rec.verdict() })
				if err != nil && strings.Contains(err.Error(), "no order") {
					return
				}
			}
			t.Error("five games were explained")
		})
	}
}

// stale answers now and then what it read before.
type stale struct {
	fs.Store
	mu    sync.Mutex
	reads int
	old   map[uint64][]byte
}

func (s *stale) ReadData(ctx context.Context, inum, off uint64, dst []byte) error {
	if err := s.Store.ReadData(ctx, inum, off, dst); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := inum<<20 | off
	if s.reads++; s.reads%10 == 0 && len(s.old[key]) == len(dst) {
		copy(dst, s.old[key])
	} else {
		s.old[key] = append([]byte(nil), dst...)
	}
	return nil
}

// blind does not find a name now and then.
type blind struct {
	fs.Store
	looks atomic.Int64
}

func (s *blind) Lookup(ctx context.Context, dir uint64, name string) (ondisk.Dirent, bool, error) {
	d, ok, err := s.Store.Lookup(ctx, dir, name)
	if strings.HasPrefix(name, "name") && s.looks.Add(1)%20 == 0 {
		return ondisk.Dirent{}, false, err
	}
	return d, ok, err
}

// lossy forgets a write now and then.
type lossy struct {
	fs.Store
	writes atomic.Int64
}

func (s *lossy) Begin(ctx context.Context, cost fs.Cost) (fs.Txn, error) {
	t, err := s.Store.Begin(ctx, cost)
	if err != nil {
		return nil, err
	}
	return &lossyTxn{t, s}, nil
}

type lossyTxn struct {
	fs.Txn
	s *lossy
}

func (t *lossyTxn) WriteData(ctx context.Context, inum, off uint64, p []byte) error {
	if t.s.writes.Add(1)%20 == 0 {
		return nil
	}
	return t.Txn.WriteData(ctx, inum, off, p)
}
