package histories

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	resync "github.com/anvilfs/anvilfs/sync"
)

const (
	callers   = 5
	each      = 220 // calls of one caller at most, over all lives
	files     = 2
	blocks    = 2 // of each file, the registers
	dirs      = 2
	blockSize = 4096
	deadline  = time.Second // of a request: these games are in real time
)

// A game is one history while it is made: lives of a mount, one after the
// other, with callers and faults in each.
type game struct {
	t    *testing.T
	seed uint64
	w    *rig.World
	rec  *recorder
	left [callers]int

	ids   atomic.Uint64 // values of registers
	files [files]uint64 // inode numbers
	dirs  [dirs]uint64
	wrap  func(fs.Store) fs.Store // nil = the pool as it is

	began time.Time

	mu    sync.Mutex
	trace []string
}

// A mount is one life.
type mount struct {
	ctx    context.Context
	cancel context.CancelFunc
	pool   *cluster.Pool
	fs     *fs.FS
	halt   context.CancelFunc
	wait   sync.WaitGroup
}

func (g *game) note(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.trace = append(g.trace, fmt.Sprintf("%12v %6d  ", time.Since(g.began), g.rec.clock.Load())+fmt.Sprintf(format, args...))
}

func (g *game) fatal(format string, args ...any) {
	g.t.Helper()
	g.mu.Lock()
	trace := strings.Join(g.trace, "\n")
	g.mu.Unlock()
	g.t.Fatalf("seed %d: %s\n%s", g.seed, fmt.Sprintf(format, args...), trace)
}

// Write takes log lines.
func (g *game) Write(p []byte) (int, error) {
	g.note("log %s", strings.TrimSpace(string(p)))
	return len(p), nil
}

func (g *game) open() *mount {
	g.t.Helper()
	m := &mount{}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(g, nil))
	p := g.openPool(m.ctx, log)
	store := fs.OnPool(p)
	if g.wrap != nil {
		store = g.wrap(store)
	}
	f, err := fs.New(m.ctx, store, false, fs.Options{NoAtime: true, Logger: log, Nodes: 4})
	if err != nil {
		g.fatal("mounting: %v", err)
	}
	m.pool, m.fs = p, f
	ctx, halt := context.WithCancel(m.ctx)
	m.halt = halt
	m.wait.Go(func() {
		resync.NewManager(p, resync.Options{Logger: log, BatchBytes: 64 << 10, DirectBytes: 64 << 10}).Run(ctx)
	})
	return m
}

// openPool tries again if members did not answer in time: this machine may be
// slower than the deadline allows.
func (g *game) openPool(ctx context.Context, log *slog.Logger) *cluster.Pool {
	g.t.Helper()
	o := cluster.Options{Label: rig.Label, Logger: log, Memory: 1 << 20, Commit: 30 * time.Millisecond, Deadline: deadline}
	for try := 1; ; try++ {
		p, err := cluster.OpenPool(ctx, g.w.Specs(), o)
		if err == nil {
			return p
		}
		if !errors.Is(err, cluster.ErrNoQuorum) || try == 20 {
			g.fatal("mounting: %v", err)
		}
		g.note("mounting: %v", err)
		g.released()
	}
}

// released waits until no process has a member open.
func (g *game) released() {
	g.t.Helper()
	for range 4000 {
		if g.w.Held() == "" {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	g.fatal("%s is still open", g.w.Held())
}

// bury ends the pool of a process that died, and with it the calls that wait
// for a member in the middle of a change: these heed no caller.
func (g *game) bury(m *mount) {
	m.halt()
	m.wait.Wait()
	for _, o := range g.w.Members {
		o.Fault().Clear()
		o.Fault().Release()
	}
	_ = m.pool.Close(m.ctx) // nothing but an error can come
}

// end stops a mount, in order or after a death.
func (g *game) end(m *mount) {
	g.t.Helper()
	m.halt()
	m.wait.Wait()
	if g.w.Dead() {
		_ = m.fs.Close(m.ctx)
	} else if err := errors.Join(m.fs.Close(m.ctx), m.pool.Close(m.ctx)); err != nil {
		g.fatal("unmounting: %v", err)
	}
	m.cancel()
	g.released()
}

// play makes the history and returns it.
func (g *game) play() *recorder {
	g.prepare()
	rng := rand.New(rand.NewPCG(g.seed, 1))
	for life := 0; ; life++ {
		m := g.open()
		g.note("life %d", life)
		done := make(chan struct{})
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() { g.calls(m, i, rand.New(rand.NewPCG(g.seed, uint64(100*life+i+2)))) })
		}
		go func() { all.Wait(); close(done) }()
		died := g.trouble(m, rng, done)
		if died {
			g.bury(m)
		}
		<-done
		if !died {
			g.heal()
			g.look(m)
			g.end(m)
			break
		}
		g.rec.crashed()
		g.end(m)
		if err := g.w.Restart(rng); err != nil {
			g.fatal("%v", err)
		}
		g.heal()
	}
	return g.rec
}

// prepare makes the files, durable before the history begins.
func (g *game) prepare() {
	m := g.open()
	ctx := m.ctx
	for i := range g.files {
		r, err := m.fs.Create(ctx, ondisk.InumRoot, fmt.Sprint("file", i), fs.NewNode{Type: ondisk.ObjFile, Mode: 0o644})
		if err == nil {
			g.files[i] = r.Meta.Inum
			_, err = m.fs.Write(ctx, r.Meta.Inum, 0, make([]byte, blocks*blockSize), false)
		}
		if err != nil {
			g.fatal("%v", err)
		}
	}
	for i := range g.dirs {
		r, err := m.fs.Create(ctx, ondisk.InumRoot, fmt.Sprint("dir", i), fs.NewNode{Type: ondisk.ObjDir, Mode: 0o755})
		if err != nil {
			g.fatal("%v", err)
		}
		g.dirs[i] = r.Meta.Inum
	}
	g.end(m)
}

// trouble makes faults until the callers are done, and reports whether the
// process died of one.
func (g *game) trouble(m *mount, rng *rand.Rand, done <-chan struct{}) (died bool) {
	for {
		select {
		case <-done:
			return false
		case <-time.After(time.Duration(rng.IntN(100)) * time.Millisecond):
		}
		o := g.w.Members[rng.IntN(len(g.w.Members))]
		long := time.Duration(1+rng.IntN(200)) * time.Millisecond
		switch rng.IntN(12) {
		case 0:
			g.note("%s is pulled for %v", o.Name, long)
			o.Pull()
			<-time.After(long)
			o.Plug(nil)
		case 1:
			g.fault(o, faultdev.Rule{Do: faultdev.Fail, On: faultdev.Write})
		case 2:
			g.fault(o, faultdev.Rule{Do: faultdev.Fail, On: faultdev.Flush})
		case 3:
			g.fault(o, faultdev.Rule{Do: faultdev.Hang, Times: faultdev.Always})
			<-time.After(deadline + long)
		case 4:
			g.fault(o, faultdev.Rule{Do: faultdev.Delay, Arg: int64(long / 4), Times: faultdev.Always})
			<-time.After(long)
		case 5:
			g.fault(o, faultdev.Rule{Do: faultdev.Fail, On: faultdev.Read, Times: 1 + rng.IntN(20)})
			<-time.After(long)
		case 6:
			err := m.pool.NodeOffline(m.ctx, o.Name)
			g.note("%s offline: %v", o.Name, err)
			<-time.After(long)
			err = m.pool.NodeOnline(m.ctx, o.Name)
			g.note("%s online: %v", o.Name, err)
		case 7:
			g.note("all are pulled for %v", long)
			for _, o := range g.w.Members {
				o.Pull()
			}
			<-time.After(long)
			for _, o := range g.w.Members {
				o.Plug(nil)
			}
		case 8, 9:
			if rng.IntN(3) > 0 { // not the end of every other life
				continue
			}
			power := rng.IntN(2) == 0
			g.note("death, power cut: %v", power)
			// At a request, which is when most can be half done.
			at := make(chan struct{})
			o.Arm(&rig.Trap{On: faultdev.Write, Nth: 1 + rng.IntN(5), Do: func() { g.w.Die(power); m.cancel(); close(at) }})
			select {
			case <-at:
			case <-time.After(time.Second):
				g.w.Die(power)
				m.cancel()
			}
			return true
		}
		g.heal()
	}
}

func (g *game) fault(o *rig.Member, r faultdev.Rule) {
	g.note("%s: %v", o.Name, r)
	o.Fault().Add(r)
}

func (g *game) heal() {
	for _, o := range g.w.Members {
		o.Plug(nil)
		o.Fault().Clear()
		o.Fault().Release()
	}
}

// calls is one caller: until its calls are used up, or the process dies.
func (g *game) calls(m *mount, who int, rng *rand.Rand) {
	if g.left[who] == 0 {
		g.left[who] = each
	}
	for ; g.left[who] > 1 && m.ctx.Err() == nil; g.left[who]-- {
		switch k := rng.IntN(20); {
		case k == 0:
			_ = g.rec.synced(who, func() error { return m.pool.Sync(m.ctx) }) // without an error it is in the history
		case k < 11:
			g.block(m, who, rng)
		default:
			g.name(m, who, rng)
		}
		<-time.After(time.Duration(rng.IntN(5000)) * time.Microsecond)
	}
}

func blockPart(file, block int) string { return fmt.Sprintf("block %d of file %d", block, file) }

func dirPart(dir int) string { return fmt.Sprintf("dir %d", dir) }

// block reads or writes a register.
func (g *game) block(m *mount, who int, rng *rand.Rand) {
	file, block := rng.IntN(files), rng.IntN(blocks)
	if rng.IntN(2) == 0 {
		g.readBlock(m, who, file, block)
		return
	}
	v := g.ids.Add(1)
	buf := bytes.Repeat(encode(v), blockSize/8)
	g.rec.do(blockPart(file, block), who, writeBlock{v}, func() (any, bool) {
		_, err := m.fs.Write(m.ctx, g.files[file], uint64(block*blockSize), buf, false)
		g.expected(m, err)
		return succeed, err == nil
	})
}

func (g *game) readBlock(m *mount, who, file, block int) {
	buf := make([]byte, blockSize)
	g.rec.do(blockPart(file, block), who, readBlock{}, func() (any, bool) {
		n, err := m.fs.Read(m.ctx, g.files[file], uint64(block*blockSize), buf)
		g.expected(m, err)
		return value(buf[:n]), err == nil
	})
}

func encode(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// value is what a block says, if it says one thing.
func value(buf []byte) uint64 {
	if len(buf) != blockSize {
		return torn
	}
	v := binary.LittleEndian.Uint64(buf)
	for i := 8; i < len(buf); i += 8 {
		if binary.LittleEndian.Uint64(buf[i:]) != v {
			return torn
		}
	}
	return v
}

// name makes a call about a name.
func (g *game) name(m *mount, who int, rng *rand.Rand) {
	dir, a, b := rng.IntN(dirs), rng.IntN(dirNames), rng.IntN(dirNames)
	d, part := g.dirs[dir], dirPart(dir)
	word := func(n int) string { return fmt.Sprint("name", n) }
	switch rng.IntN(4) {
	case 0:
		g.rec.do(part, who, create{a}, func() (any, bool) {
			r, err := m.fs.Create(m.ctx, d, word(a), fs.NewNode{Type: ondisk.ObjFile, Mode: 0o644})
			if errors.Is(err, syscall.EEXIST) {
				return exists, true
			}
			if g.expected(m, err); err != nil {
				return nil, false
			}
			m.fs.Forget(r.Meta.Inum, 1)
			return r.Meta.Inum, true
		})
	case 1:
		g.rec.do(part, who, unlink{a}, func() (any, bool) { return g.named(m, m.fs.Unlink(m.ctx, d, word(a))) })
	case 2:
		g.rec.do(part, who, rename{a, b}, func() (any, bool) { return g.named(m, m.fs.Rename(m.ctx, d, word(a), d, word(b), 0)) })
	default:
		g.lookup(m, who, dir, a)
	}
}

func (g *game) named(m *mount, err error) (any, bool) {
	if errors.Is(err, syscall.ENOENT) {
		return absent, true
	}
	g.expected(m, err)
	return succeed, err == nil
}

func (g *game) lookup(m *mount, who, dir, name int) {
	g.rec.do(dirPart(dir), who, lookup{name}, func() (any, bool) {
		r, ok, err := m.fs.Lookup(m.ctx, g.dirs[dir], fmt.Sprint("name", name))
		if g.expected(m, err); err != nil {
			return nil, false
		}
		if !ok {
			return uint64(0), true
		}
		m.fs.Forget(r.Meta.Inum, 1)
		return r.Meta.Inum, true
	})
}

// expected fails the game at an error that a mount which waits for its quorum
// must not give.
func (g *game) expected(m *mount, err error) {
	if err != nil && m.ctx.Err() == nil && !g.w.Dead() {
		g.note("error: %v", err)
		g.t.Errorf("seed %d: a call failed: %v", g.seed, err)
	}
}

// look reads everything at the end.
func (g *game) look(m *mount) {
	for f := range files {
		for b := range blocks {
			g.readBlock(m, 0, f, b)
		}
	}
	for d := range dirs {
		for n := range dirNames {
			g.lookup(m, 0, d, n)
		}
	}
}
