package matrix

import (
	"errors"
	"fmt"
	"strings"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	resync "github.com/anvilfs/anvilfs/sync"
)

const (
	smallest  = 64 << 20 // a volume of this is soon full
	fillPiece = 512 << 10
)

// full fills the volumes. A call that does not fit says so at once, a sync
// never; what frees space works; and a member that has no room for a copy
// beside what it has says that, and gets it when there is.
func full(r *run) {
	r.check(r.open(), "mounting")
	r.work(3)
	filled := r.fill("fill")
	switch r.cell.at {
	case promise:
		r.check(r.close(), "unmounting")
		r.check(r.open(), "mounting full volumes")
	case copying:
		filled = r.noRoom(filled)
	}
	r.reads()
	for _, name := range filled {
		r.remove(name)
	}
	r.check(r.sync(r.limit), "sync after removing")
	r.healthy()
	r.work(5)
	r.finish()
}

// fill writes files until there is no space, and returns their names.
func (r *run) fill(prefix string) (names []string) {
	r.t.Helper()
	for i := 0; ; i++ {
		name := fmt.Sprint(prefix, i)
		err := r.life.caller.create(r.life.ctx, name)
		if err == nil {
			names = append(names, name)
			err = r.life.caller.write(r.life.ctx, name, 0, content(r.rng, fillPiece))
		}
		if serr := r.sync(r.limit); serr != nil {
			r.fail("a sync failed where calls are refused: %v", serr)
		}
		r.keepUp() // who falls behind while it is filled is another row
		if errors.Is(err, cluster.ErrNoSpace) {
			r.note("full after %d files", i)
			return names
		}
		if r.check(err, "filling"); i > smallest/fillPiece {
			r.fail("more went in than there is room for")
		}
	}
}

// keepUp waits until the members that take part have the last txg.
func (r *run) keepUp() {
	r.t.Helper()
	r.until("those that take part at the last txg", func() bool {
		st := r.life.pool.Status()
		for _, n := range st.Nodes {
			if n.T != st.Committed && (n.State == cluster.NodeInSync || n.State == cluster.NodeBehind) {
				return false
			}
		}
		return true
	})
}

func (r *run) remove(name string) {
	r.t.Helper()
	err := r.life.caller.do(func(s map[string]string) { delete(s, "/"+name) },
		func() error { return r.life.fs.Unlink(r.life.ctx, ondisk.InumRoot, name) })
	r.check(err, "removing from a full volume")
}

// noRoom lets the others replace all they have while m is away.
func (r *run) noRoom(filled []string) []string {
	r.t.Helper()
	r.check(r.life.pool.NodeOffline(r.life.ctx, r.m.Name), "node offline")
	for _, name := range filled {
		r.remove(name)
		r.check(r.sync(r.limit), "sync")
	}
	filled = r.fill("other")
	said := make(chan struct{})
	closed := false
	r.mu.Lock()
	r.onCopy = func(rep resync.Report) {
		if rep.State == resync.Failed && strings.Contains(rep.Err, resync.ErrNoRoom.Error()) && !closed {
			closed = true
			close(said)
		}
	}
	r.mu.Unlock()
	r.check(r.life.pool.NodeOnline(r.life.ctx, r.m.Name), "node online")
	r.until("a word about the lack of room", func() bool {
		select {
		case <-said:
			return true
		default:
			return false
		}
	})
	return filled
}

func roomOnly(c cell) string {
	switch c.at {
	case idle, promise, copying:
		return notWhileBare(c)
	}
	return "a txg is made only when there is space for it; the device's own lack is another row"
}
