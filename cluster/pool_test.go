package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

var bg = context.Background()

func readAll(t testing.TB, p *Pool, inum uint64, n int) []byte {
	t.Helper()
	buf := bytes.Repeat([]byte{0xEE}, n)
	if err := p.ReadData(bg, inum, 0, buf); err != nil {
		t.Fatalf("read of inode %d: %v", inum, err)
	}
	return buf
}

func TestPoolBasics(t *testing.T) {
	dev := formatted(t, 256<<20)
	p, _ := openFake(t, Options{}, dev)
	dir := makeFile(t, p, 1, "dir", ondisk.ObjDir)
	file := makeFile(t, p, dir, "file", ondisk.ObjFile)
	data := bytes.Repeat([]byte("anvil"), 50000)
	write(t, p, file, 0, data)
	check := func(when string) {
		d, ok, err := p.Lookup(bg, dir, "file")
		if err != nil || !ok || d.Inum != file || d.Type != ondisk.ObjFile {
			t.Errorf("%s: lookup: %+v %v %v", when, d, ok, err)
		}
		if _, ok, err := p.Lookup(bg, dir, "other"); ok || err != nil {
			t.Errorf("%s: lookup of what is not there: %v %v", when, ok, err)
		}
		in, ok, err := p.Inode(bg, file)
		if err != nil || !ok || in.Meta.Size != uint64(len(data)) {
			t.Errorf("%s: inode: %v %v", when, ok, err)
		}
		if got := readAll(t, p, file, len(data)+10); !bytes.Equal(got[:len(data)], data) || !bytes.Equal(got[len(data):], make([]byte, 10)) {
			t.Errorf("%s: data differs", when)
		}
	}
	check("open")
	mustSync(t, p)
	check("committed")
	closePool(t, p)
	dev.Reopen()
	p, _ = openFake(t, Options{}, dev)
	check("reopened")
	if n := makeFile(t, p, 1, "next", ondisk.ObjFile); n <= file {
		t.Errorf("number %d handed out again", n)
	}
	call(t, p, func(tx *Txn) error { tx.DeleteInode(file); return tx.RemoveDirent(dir, "file") })
	if _, ok, _ := p.Lookup(bg, dir, "file"); ok {
		t.Error("removed name found")
	}
	if _, ok, _ := p.Inode(bg, file); ok {
		t.Error("deleted inode found")
	}
	mustSync(t, p)
	if _, ok, _ := p.Inode(bg, file); ok {
		t.Error("deleted inode found after commit")
	}
	closePool(t, p)
}

func TestPoolGroupCommit(t *testing.T) {
	p, e := openFake(t, Options{Commit: time.Hour}, formatted(t, 256<<20))
	defer closePool(t, p)
	mustSync(t, p)
	if e.commits != 0 {
		t.Errorf("%d commits of nothing", e.commits)
	}
	e.set(func() { e.slow = 20 * time.Millisecond })
	const callers = 32
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			makeFile(t, p, 1, fmt.Sprint("f", i), ondisk.ObjFile)
			if err := p.Sync(bg); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if e.commits > 8 {
		t.Errorf("%d commits for %d callers at once", e.commits, callers)
	}
}

func TestPoolTimer(t *testing.T) {
	p, e := openFake(t, Options{Commit: 10 * time.Millisecond}, formatted(t, 256<<20))
	defer closePool(t, p)
	makeFile(t, p, 1, "a", ondisk.ObjFile)
	deadline := time.After(5 * time.Second)
	for {
		changed := e.changed()
		if e.committed().T.Seq() != 0 {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("not committed by itself")
		}
	}
}

func TestPoolCommitError(t *testing.T) {
	p, e := openFake(t, Options{Commit: time.Hour, OnNoQuorum: EIO}, formatted(t, 256<<20))
	defer closePool(t, p)
	f := makeFile(t, p, 1, "a", ondisk.ObjFile)
	e.set(func() { e.fail = ErrNoQuorum })
	if err := p.Sync(bg); !errors.Is(err, ErrNoQuorum) {
		t.Fatalf("sync: %v", err)
	}
	if s := p.Status(); s.CommitError == "" {
		t.Error("status is silent about it")
	}
	write(t, p, f, 0, []byte("later"))
	if got := readAll(t, p, f, 5); string(got) != "later" {
		t.Errorf("read %q", got)
	}
	e.set(func() { e.fail = nil })
	mustSync(t, p)
	mustSync(t, p)
	if got := readAll(t, p, f, 5); string(got) != "later" {
		t.Errorf("read %q after recovery", got)
	}
}

// Symptom: a sync that came when a pool had been closed in vain said that all was
// durable, and it was lost.
func TestPoolSyncAfterClose(t *testing.T) {
	p, e := openFake(t, Options{Commit: time.Hour}, formatted(t, 256<<20))
	makeFile(t, p, 1, "a", ondisk.ObjFile)
	e.set(func() { e.fail = ErrNoQuorum })
	ctx, cancel := context.WithCancel(bg)
	closed := make(chan error, 1)
	go func() { closed <- p.Close(ctx) }()
	for tick := time.NewTicker(time.Millisecond); p.lastErr.Load() == nil; <-tick.C {
	}
	cancel()
	if err := <-closed; err == nil {
		t.Error("closed, with what cannot be committed")
	}
	if err := p.Sync(bg); !errors.Is(err, ErrPoolClosed) {
		t.Errorf("sync: %v", err)
	}
	if err := p.Settle(bg); !errors.Is(err, ErrPoolClosed) {
		t.Errorf("settle: %v", err)
	}
}

// Symptom: a write that was inside when a pool was closed in vain panicked; if a
// commit had begun to wait for it, closing never ended.
func TestPoolWriteOutlivesClose(t *testing.T) {
	for _, awaited := range []bool{false, true} {
		p, _ := openFake(t, Options{Commit: time.Hour}, formatted(t, 256<<20))
		f := makeFile(t, p, 1, "a", ondisk.ObjFile)
		call(t, p, func(tx *Txn) error {
			if awaited {
				poke(p.wish)
				for tick := time.NewTicker(time.Millisecond); p.state.Load().syncing == nil; <-tick.C {
				}
			}
			ctx, cancel := context.WithCancel(bg)
			cancel()
			if err := p.Close(ctx); err == nil {
				t.Error("closed, with a call inside")
			}
			tx.PutInode(fileMeta(f, 4*ondisk.LogicalBlock))
			_ = tx.WriteData(bg, f, 0, make([]byte, 4*ondisk.LogicalBlock)) // it is lost, whatever it says
			return nil
		})
	}
}

func TestPoolCollisions(t *testing.T) {
	a, b := "cb.ce.cf.cg.cc.ca.cd.ch", "ca.cb.cd.ce.cg.cf.ch.cc"
	p, _ := openFake(t, Options{}, formatted(t, 256<<20))
	defer closePool(t, p)
	fa := makeFile(t, p, 1, a, ondisk.ObjFile)
	mustSync(t, p)
	fb := makeFile(t, p, 1, b, ondisk.ObjFile)
	expect := func(name string, inum uint64) {
		t.Helper()
		d, ok, err := p.Lookup(bg, 1, name)
		if err != nil || ok != (inum != 0) || d.Inum != inum {
			t.Errorf("%s: %+v %v %v, want %d", name, d, ok, err, inum)
		}
	}
	expect(a, fa)
	expect(b, fb)
	mustSync(t, p)
	// b takes the key that a leaves behind, within one group.
	call(t, p, func(tx *Txn) error { return tx.RemoveDirent(1, a) })
	call(t, p, func(tx *Txn) error { return tx.RemoveDirent(1, b) })
	call(t, p, func(tx *Txn) error { return tx.AddDirent(1, b, fb, ondisk.ObjFile) })
	expect(a, 0)
	expect(b, fb)
	if d, _, _ := p.Lookup(bg, 1, b); d.Key != ondisk.NameHash(b) {
		t.Errorf("key %#x is not the lowest", d.Key)
	}
	mustSync(t, p)
	expect(a, 0)
	expect(b, fb)
	call(t, p, func(tx *Txn) error { return tx.ReplaceDirent(1, b, fa, ondisk.ObjFile) })
	expect(b, fa)
	call(t, p, func(tx *Txn) error {
		if err := tx.RemoveDirent(1, a); !errors.Is(err, ErrNoEntry) {
			t.Errorf("removal of what is not there: %v", err)
		}
		return nil
	})
}

func TestPoolHoles(t *testing.T) {
	const blk = ondisk.LogicalBlock
	p, _ := openFake(t, Options{}, formatted(t, 256<<20))
	defer closePool(t, p)
	f := makeFile(t, p, 1, "f", ondisk.ObjFile)
	data := make([]byte, 6*blk)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = io.ReadFull(rng, data)
	write(t, p, f, 0, data)
	for _, committed := range []bool{false, true} {
		if committed {
			mustSync(t, p)
		}
		call(t, p, func(tx *Txn) error { return tx.ZeroData(bg, f, blk+10, 3*blk+20) })
		clear(data[blk+10 : 3*blk+20])
		if got := readAll(t, p, f, len(data)); !bytes.Equal(got, data) {
			t.Fatalf("committed %v: data differs after punch", committed)
		}
		at, ok, err := p.SeekHole(bg, f, 5, uint64(len(data)))
		if at != 2*blk || !ok || err != nil {
			t.Errorf("committed %v: hole at %#x %v %v", committed, at, ok, err)
		}
		at, ok, err = p.SeekData(bg, f, 2*blk+7, uint64(len(data)))
		if at != 3*blk || !ok || err != nil {
			t.Errorf("committed %v: data at %#x %v %v", committed, at, ok, err)
		}
		if n, err := p.Blocks(bg, f); err != nil || n != 4*blk+ondisk.MinBlock {
			t.Errorf("committed %v: %d bytes, %v", committed, n, err)
		}
	}
	call(t, p, func(tx *Txn) error { return tx.TruncateData(bg, f, 6*blk, 4*blk+3) })
	clear(data[4*blk+3:])
	call(t, p, func(tx *Txn) error { tx.PutInode(fileMeta(f, 6*blk)); return tx.TruncateData(bg, f, 4*blk+3, 6*blk) })
	for range 2 {
		if got := readAll(t, p, f, len(data)); !bytes.Equal(got, data) {
			t.Fatal("data differs after truncation")
		}
		mustSync(t, p)
	}
	if _, ok, _ := p.SeekData(bg, f, 5*blk, 6*blk); ok {
		t.Error("data behind the truncation")
	}
}

func TestPoolInline(t *testing.T) {
	p, _ := openFake(t, Options{}, formatted(t, 256<<20))
	defer closePool(t, p)
	f := makeFile(t, p, 1, "f", ondisk.ObjFile)
	inline := fileMeta(f, 6)
	inline.Meta.OpFlags |= ondisk.OpDirectData
	inline.Inline = []byte("inline")
	for _, committed := range []bool{false, true} {
		write(t, p, f, 0, []byte("0123456789"))
		call(t, p, func(tx *Txn) error { tx.PutInode(inline); return nil })
		if committed {
			mustSync(t, p)
		}
		if got := readAll(t, p, f, 8); string(got) != "inline\x00\x00" {
			t.Errorf("committed %v: %q", committed, got)
		}
		call(t, p, func(tx *Txn) error {
			tx.PutInode(fileMeta(f, 7))
			return tx.WriteData(bg, f, 2, []byte("XXXXX"))
		})
		for range 2 {
			if got := readAll(t, p, f, 8); string(got) != "inXXXXX\x00" {
				t.Errorf("committed %v: %q", committed, got)
			}
			mustSync(t, p)
		}
	}
}

func TestPoolReadDirMerged(t *testing.T) {
	p, _ := openFake(t, Options{}, formatted(t, 256<<20))
	defer closePool(t, p)
	want := map[string]bool{}
	for i := range 900 {
		name := fmt.Sprint("name", i)
		makeFile(t, p, 1, name, ondisk.ObjFile)
		want[name] = true
		if i%3 == 2 && i > 100 {
			gone := fmt.Sprint("name", i-97)
			call(t, p, func(tx *Txn) error { return tx.RemoveDirent(1, gone) })
			delete(want, gone)
		}
		if i == 500 {
			mustSync(t, p)
		}
	}
	var keys []uint64
	for from := uint64(0); ; {
		n := 0
		err := p.ReadDir(bg, 1, from, func(d ondisk.Dirent) bool {
			if !want[d.Name] {
				t.Errorf("unexpected or twice: %s", d.Name)
			}
			delete(want, d.Name)
			keys = append(keys, d.Key)
			from = d.Key + 1
			n++
			return n < 70
		})
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	if len(want) != 0 {
		t.Errorf("%d names missing", len(want))
	}
	if !slices.IsSorted(keys) {
		t.Error("keys out of order")
	}
}

func TestPoolOrphans(t *testing.T) {
	p, _ := openFake(t, Options{}, formatted(t, 256<<20))
	defer closePool(t, p)
	keep := makeFile(t, p, 1, "keep", ondisk.ObjFile)
	var lost, attrs uint64
	call(t, p, func(tx *Txn) error {
		lost = tx.NewInum()
		in := fileMeta(lost, 0)
		in.Meta.Nlinks = 0
		tx.PutInode(in)
		for _, owner := range []uint64{keep, 999999} {
			attr := fileMeta(ondisk.AttrBit|owner, 0)
			attr.Meta.Iparent = owner
			tx.PutInode(attr)
		}
		attrs = ondisk.AttrBit | 999999
		return nil
	})
	var got []uint64
	walk, err := p.Orphans(bg)
	if err != nil {
		t.Fatal(err)
	}
	if err := walk(bg, func(inum uint64) bool { got = append(got, inum); return true }); err != nil {
		t.Fatal(err)
	}
	if want := []uint64{lost, attrs}; !slices.Equal(got, want) {
		t.Errorf("orphans %v, want %v", got, want)
	}
}

// A reader that got a state keeps it whole while groups come and go.
func TestPoolStateOutlivesCommits(t *testing.T) {
	p, _ := openFake(t, Options{}, formatted(t, 256<<20))
	defer closePool(t, p)
	f := makeFile(t, p, 1, "f", ondisk.ObjFile)
	write(t, p, f, 0, bytes.Repeat([]byte{1}, 4096))
	s := p.acquire()
	for i := range 5 {
		mustSync(t, p)
		write(t, p, f, 0, bytes.Repeat([]byte{byte(i + 2)}, 4096))
	}
	open := s.open
	buf := make([]byte, 4096)
	if open.find(f).copyOut(0, 0, buf) != dataHere || buf[0] != 1 || buf[4095] != 1 {
		t.Error("the buffer was used again under a reader")
	}
	if err := s.views[0].View.ReadData(bg, f, 0, buf); !errors.Is(err, chain.ErrNoInode) {
		t.Errorf("the old view: %v", err)
	}
	s.release()
}

func TestStatusJudge(t *testing.T) {
	node := func(name string, state NodeState, next string) NodeStatus {
		return NodeStatus{Name: name, State: state, Role: ondisk.PFSMaster.String(), Next: next}
	}
	s := Status{Nodes: []NodeStatus{node("c", NodeFailed, "check the cable"), node("a", NodeInSync, ""), node("b", NodeInSync, "")}}
	s.judge(true, false)
	if s.Health != PoolDegraded || s.Next != "c: check the cable" || s.Quorum.InSync != 2 || s.Quorum.Need != 2 {
		t.Errorf("%+v", s)
	}
	s = Status{Nodes: []NodeStatus{node("a", NodeMissing, ""), node("b", NodeMissing, ""), node("c", NodeInSync, "")}}
	s.judge(false, false)
	if s.Health != PoolStalled || s.Next == "" {
		t.Errorf("%+v", s)
	}
}
