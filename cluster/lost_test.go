package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// While enough members are there but devices fail for a moment, a group waits for
// its blocks; without a quorum it waits for as long as it takes, and who waits for
// the group is told. Nothing is lost.
func TestPartialReadFailsForAWhile(t *testing.T) {
	for _, quorum := range []bool{true, false} {
		t.Run(fmt.Sprintf("quorum=%v", quorum), func(t *testing.T) { failsForAWhile(t, quorum) })
	}
}

func failsForAWhile(t *testing.T, quorum bool) {
	p, dev, file, data := stored(t, Options{Commit: time.Hour}, 2)
	e := p.engine.(*fakeEngine)
	dev.set(nil, io.ErrUnexpectedEOF, false)
	write(t, p, file, 4096, noise(2, 4096))
	copy(data[4096:], noise(2, 4096))
	e.set(func() { e.noQuota = !quorum })
	if quorum {
		time.AfterFunc(unreadLimit/4, func() { dev.set(nil, nil, false) })
	} else {
		if err := p.Sync(bg); err == nil || errors.Is(err, ErrPoolClosed) {
			t.Fatalf("sync: %v", err)
		}
		<-time.After(unreadLimit + unreadPause)
		dev.set(nil, nil, false)
		e.set(func() { e.noQuota = false })
	}
	mustSync(t, p)
	if err := errors.Join(p.Lost(file), p.LostAny()); err != nil {
		t.Errorf("lost: %v", err)
	}
	if got := readAll(t, p, file, len(data)); !bytes.Equal(got, data) {
		t.Error("wrong data")
	}
	closePool(t, p)
}

// What no member can read must not hold up all others. The write is lost then,
// and who syncs is told as long as the block has nothing else.
func TestPartialIsGivenUp(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		flip bool
	}{{"bad check code", nil, true}, {"unreadable", io.ErrUnexpectedEOF, false}} {
		t.Run(c.name, func(t *testing.T) {
			told := make(chan uint64, 9)
			p, dev, file, data := stored(t, Options{Commit: time.Hour, Lost: func(inum uint64) { told <- inum }}, 2)
			other := makeFile(t, p, 1, "other", ondisk.ObjFile)
			write(t, p, other, 0, []byte("kept"))
			write(t, p, file, ondisk.LogicalBlock, noise(5, ondisk.LogicalBlock)) // needs no read
			copy(data[ondisk.LogicalBlock:], noise(5, ondisk.LogicalBlock))
			dev.set(nil, c.err, c.flip)
			write(t, p, file, 4096, noise(2, 4096))
			check(t, p.Settle(bg))
			if err := p.Lost(other); err != nil {
				t.Errorf("lost of another file: %v", err)
			}
			if inum := <-told; inum != file {
				t.Errorf("inode %d is said to have lost something", inum)
			}
			for range 3 {
				if p.Lost(file) == nil || p.LostAny() == nil {
					t.Error("who syncs is not told")
				}
			}
			if err := p.ReadData(bg, file, 4096, make([]byte, 100)); err == nil {
				t.Error("what cannot be read was made up")
			}
			dev.set(nil, nil, false)
			if got := readAll(t, p, file, len(data)); !bytes.Equal(got, data) {
				t.Error("wrong data")
			}
			if got := readAll(t, p, other, 4); string(got) != "kept" {
				t.Errorf("the other file has %q", got)
			}
			write(t, p, file, 0, noise(6, ondisk.LogicalBlock))
			mustSync(t, p)
			if err := errors.Join(p.Lost(file), p.LostAny()); err != nil {
				t.Errorf("told of a block that was replaced: %v", err)
			}
			closePool(t, p)
		})
	}
}

// A lost write is told also if its block can be read again before anybody asked,
// and whatever became of it.
func TestPartialLostIsTold(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, p *Pool, file uint64){
		"written to": func(t *testing.T, p *Pool, file uint64) { write(t, p, file, 20000, noise(3, 4096)) },
		"punched": func(t *testing.T, p *Pool, file uint64) {
			call(t, p, func(tx *Txn) error { return tx.ZeroData(bg, file, 0, ondisk.LogicalBlock) })
		},
		"inline": func(t *testing.T, p *Pool, file uint64) {
			in := fileMeta(file, 10)
			in.Meta.OpFlags |= ondisk.OpDirectData
			in.Inline = make([]byte, 10)
			call(t, p, func(tx *Txn) error { tx.PutInode(in); return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, dev, file, _ := stored(t, Options{Commit: time.Hour}, 2)
			dev.set(nil, nil, true)
			write(t, p, file, 4096, noise(2, 4096))
			check(t, p.Settle(bg))
			dev.set(nil, nil, false)
			replace(t, p, file)
			mustSync(t, p)
			if p.Lost(file) == nil || p.LostAny() == nil {
				t.Error("nobody is told")
			}
			if err := errors.Join(p.Lost(file), p.LostAny()); err != nil {
				t.Errorf("told again: %v", err)
			}
			if n := len(p.lost.blocks); n != 0 {
				t.Errorf("%d places are kept", n)
			}
			closePool(t, p)
		})
	}
}

// What is lost when the pool is closed is told by that, and is not kept for an
// inode that is gone.
func TestPartialLostAtTheEnd(t *testing.T) {
	p, dev, file, _ := stored(t, Options{Commit: time.Hour}, 2)
	dev.set(nil, nil, true)
	write(t, p, file, 4096, noise(2, 4096))
	if err := p.Close(bg); !errors.Is(err, ondisk.ErrCorrupt) {
		t.Errorf("close: %v", err)
	}

	p, dev, file, _ = stored(t, Options{Commit: time.Hour}, 2)
	dev.set(nil, nil, true)
	write(t, p, file, 4096, noise(2, 4096))
	check(t, p.Settle(bg))
	call(t, p, func(tx *Txn) error { tx.DeleteInode(file); return nil })
	mustSync(t, p)
	if p.LostAny() == nil || p.LostAny() != nil || len(p.lost.blocks) != 0 {
		t.Error("it is not told once")
	}
	closePool(t, p)
}

// While something is known to be wrong, or for a caller that would not hear of it
// later, a block is read before its write is accepted, which fails if it cannot be.
func TestPartialIsReadFirstInTrouble(t *testing.T) {
	p, dev, file, data := stored(t, Options{Commit: time.Hour}, 2)
	e := p.engine.(*fakeEngine)
	e.set(func() { e.unsound = true })
	dev.set(nil, nil, true)
	refused := func(later bool) {
		t.Helper()
		tx, err := p.Begin(bg, Cost{Leaves: 4, Bytes: 4096, Later: later})
		check(t, err)
		defer tx.End()
		if err := tx.WriteData(bg, file, 4096, noise(2, 4096)); !errors.Is(err, ondisk.ErrCorrupt) {
			t.Errorf("write: %v", err)
		}
	}
	refused(true)
	e.set(func() { e.unsound = false })
	refused(false)
	mustSync(t, p)
	dev.set(nil, nil, false)
	if got := readAll(t, p, file, len(data)); !bytes.Equal(got, data) {
		t.Error("wrong data")
	}
	closePool(t, p)
}

// The members of a cluster are sound while all masters are in sync and nothing bad
// that was met is left; one copy alone never is.
func TestSound(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	e := p.engine.(*engine)
	untilEqual(t, e)
	if !e.sound() {
		t.Error("three masters in sync are not sound")
	}
	e.mu.Lock()
	m := e.pub.members[0].m
	e.mu.Unlock()
	m.bad.Add(1)
	if e.sound() {
		t.Error("sound with a bad block")
	}
	m.repaired.Add(1)
	if !e.sound() {
		t.Error("not sound with nothing bad left")
	}
	check(t, p.NodeOffline(bg, e.nodes()[2].Name))
	if e.sound() {
		t.Error("sound without one of the masters")
	}
	check(t, p.Close(bg))

	one := newTestCluster(t, 1)
	p = one.pool(Options{})
	if p.engine.sound() {
		t.Error("a single copy is sound")
	}
	check(t, p.Close(bg))
}
