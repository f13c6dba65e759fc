package histories

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/tests/bar"
	"golang.org/x/sys/unix"
)

const (
	mountCallers = 4
	mountCalls   = 60 // of each caller
)

// A kernelGame is a history of a real mount: files opened for appending by
// several, and locks.
type kernelGame struct {
	game
	dir  string
	pool *cluster.Pool
	srv  *fs.Server

	begun, ended atomic.Int64 // writes of the block
}

func TestHistoriesOfAMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	goal := bar.Goal{What: "histories of a mount", Quick: 2, Test: 20, Nightly: 500}
	n := goal.N(t)
	began, done := time.Now(), 0
	for seed := range uint64(n) {
		if goal.Over(t, began, done) {
			break
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			playMount(t, seed)
			if !t.Failed() {
				done++
			}
		})
	}
	goal.Check(t, done)
}

func playMount(t *testing.T, seed uint64) {
	w, err := fresh[seed%2]()
	if err != nil {
		t.Fatal(err)
	}
	g := &kernelGame{dir: t.TempDir()}
	g.t, g.seed, g.w, g.began = t, seed, w.Clone(), time.Now()
	g.rec = newRecorder("log 0", "log 1", "lock 0", "block 0 of file 0")
	g.serve()
	defer func() {
		if err := g.srv.Unmount(); err != nil {
			t.Error(err)
		}
	}()
	block, err := os.OpenFile(g.path("block"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer block.Close()
	if _, err := block.WriteAt(make([]byte, blockSize), 0); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var all sync.WaitGroup
	for i := range mountCallers {
		all.Go(func() { g.kernelCalls(i+1, rand.New(rand.NewPCG(seed, uint64(i+2)))) })
	}
	go func() { all.Wait(); close(done) }()
	g.kernelTrouble(rand.New(rand.NewPCG(seed, 1)), done)
	<-done
	g.heal()
	for i := range 2 {
		g.readLog(0, i)
	}
	if err := g.rec.verdict(); err != nil {
		g.fatal("%v", err)
	}
}

func (g *kernelGame) path(name string) string { return filepath.Join(g.dir, name) }

func (g *kernelGame) serve() {
	log := slog.New(slog.NewTextHandler(g, nil))
	g.pool = g.openPool(context.Background(), log)
	var err error
	g.srv, err = fs.Mount(context.Background(), fs.OnPool(g.pool), g.dir, fs.MountOptions{
		Logger: log, Closing: func() error { return g.pool.Close(context.Background()) },
	})
	if err != nil {
		g.fatal("mounting: %v", err)
	}
}

// kernelTrouble makes faults that a mount survives.
func (g *kernelGame) kernelTrouble(rng *rand.Rand, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Duration(rng.IntN(100)) * time.Millisecond):
		}
		o := g.w.Members[rng.IntN(len(g.w.Members))]
		long := time.Duration(1+rng.IntN(200)) * time.Millisecond
		switch rng.IntN(4) {
		case 0:
			g.note("%s is pulled for %v", o.Name, long)
			o.Pull()
			<-time.After(long)
		case 1:
			g.note("all are pulled for %v", long)
			for _, o := range g.w.Members {
				o.Pull()
			}
			<-time.After(long)
		case 2:
			err := g.pool.NodeOffline(context.Background(), o.Name)
			g.note("%s offline: %v", o.Name, err)
			<-time.After(long)
			err = g.pool.NodeOnline(context.Background(), o.Name)
			g.note("%s online: %v", o.Name, err)
		case 3:
			<-time.After(long)
		}
		g.heal()
	}
}

// kernelCalls is one caller, with files that it opened itself.
func (g *kernelGame) kernelCalls(who int, rng *rand.Rand) {
	var logs [2]*os.File
	for i := range logs {
		f, err := os.OpenFile(g.path(fmt.Sprint("log", i)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			g.t.Errorf("seed %d: %v", g.seed, err)
			return
		}
		defer f.Close()
		logs[i] = f
	}
	file, err := os.OpenFile(g.path("block"), os.O_RDWR, 0)
	if err != nil {
		g.t.Errorf("seed %d: %v", g.seed, err)
		return
	}
	defer file.Close()
	holds := false
	for n := range mountCalls {
		switch i := rng.IntN(2); rng.IntN(8) {
		case 0, 1:
			id := fmt.Sprintf("%d:%03d ", who, n)
			g.rec.do(fmt.Sprint("log ", i), who, appendRecord{id}, func() (any, bool) {
				_, err := logs[i].WriteString(id)
				return succeed, g.works(err)
			})
		case 2:
			g.readLog(who, i)
		case 3, 4:
			holds = g.lockOrNot(who, file, holds)
		case 5:
			g.kernelWrite(who, file)
		case 6:
			g.kernelRead(who, file)
		case 7:
			_ = g.rec.synced(who, func() error { return logs[i].Sync() }) // no crash comes: it only must not fail
		}
		<-time.After(time.Duration(rng.IntN(5000)) * time.Microsecond)
	}
	if holds {
		g.lockOrNot(who, file, holds)
	}
}

func (g *kernelGame) works(err error) bool {
	if err != nil {
		g.t.Errorf("seed %d: %v", g.seed, err)
	}
	return err == nil
}

func (g *kernelGame) readLog(who, i int) {
	g.rec.do(fmt.Sprint("log ", i), who, readRecords{}, func() (any, bool) {
		b, err := os.ReadFile(g.path(fmt.Sprint("log", i)))
		return string(b), g.works(err)
	})
}

// lockOrNot takes the lock of a file, or gives it back. The lock is that of an
// open file, so that callers in one process exclude each other.
func (g *kernelGame) lockOrNot(who int, f *os.File, holds bool) bool {
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if holds {
		l.Type = unix.F_UNLCK
		g.rec.do("lock 0", who, unlock{who}, func() (any, bool) {
			return succeed, g.works(unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l))
		})
		return false
	}
	got := false
	g.rec.do("lock 0", who, tryLock{who}, func() (any, bool) {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l)
		if err == unix.EAGAIN || err == unix.EACCES {
			return false, true
		}
		got = err == nil
		return got, g.works(err)
	})
	return got
}

func (g *kernelGame) kernelWrite(who int, f *os.File) {
	v := g.ids.Add(1)
	g.rec.do("block 0 of file 0", who, writeBlock{v}, func() (any, bool) {
		g.begun.Add(1)
		defer g.ended.Add(1)
		_, err := f.WriteAt(bytes.Repeat(encode(v), blockSize/8), 0)
		return succeed, g.works(err)
	})
}

// kernelRead reads the block. While one writes a page of the kernel's cache others
// see parts of it, on any filesystem of Linux: such a read tells nothing and is done
// again, if there was a write beside it.
func (g *kernelGame) kernelRead(who int, f *os.File) {
	buf := make([]byte, blockSize)
	g.rec.do("block 0 of file 0", who, readBlock{}, func() (any, bool) {
		for {
			ended := g.ended.Load()
			n, err := f.ReadAt(buf, 0)
			if v := value(buf[:n]); err != nil || v != torn || g.begun.Load() == ended {
				return v, g.works(err)
			}
		}
	})
}
