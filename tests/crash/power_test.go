package crash

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A volatile is a device with a cache of its own that loses power: what was
// written is on media when a flush that began later has returned, and until
// then in part, in any order, or not at all.
type volatile struct {
	ondisk.Device // what readers see
	media         ondisk.Device
	lies          bool // a flush does nothing

	mu     sync.Mutex // guards what follows, and the order of writes
	cached []*cachedWrite
}

// A cachedWrite is not on media yet.
type cachedWrite struct {
	off    int64
	data   []byte
	flying bool // it has not returned: a flush does not cover it
}

// powerSector is what reaches media together.
const powerSector = 512

// WriteAt implements ondisk.Device.
func (d *volatile) WriteAt(p []byte, off int64) (int, error) {
	w := &cachedWrite{off, slices.Clone(p), true}
	d.mu.Lock()
	n, err := d.Device.WriteAt(p, off)
	if err == nil {
		d.cached = append(d.cached, w)
	}
	d.mu.Unlock()
	if err != nil {
		return n, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	w.flying = false
	return n, nil
}

// Flush implements ondisk.Device.
func (d *volatile) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lies {
		return nil
	}
	var left []*cachedWrite
	for _, w := range d.cached {
		if w.flying {
			left = append(left, w)
			continue
		}
		if _, err := d.media.WriteAt(w.data, w.off); err != nil {
			return err
		}
	}
	d.cached = left
	return nil
}

// maxJunk bounds what a discard costs; larger ones leave what was there.
const maxJunk = 16 << 20

// Discard implements ondisk.Device: what was there is junk from then on.
func (d *volatile) Discard(off, n int64) error {
	beg, end := (off+powerSector-1)/powerSector*powerSector, min(off+n, d.Size())/powerSector*powerSector
	if off < 0 || beg >= end || end-beg > maxJunk {
		return d.Device.Discard(off, 0)
	}
	_, err := d.WriteAt(bytes.Repeat([]byte{0xDD}, int(end-beg)), beg)
	return err
}

// cut takes the power away: of what was not flushed nothing is left, all, some
// writes, or some sectors. Nobody uses the device meanwhile.
func (d *volatile) cut(rnd *rand.Rand) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	kind := rnd.IntN(4)
	for _, w := range d.cached {
		some := rnd.IntN(2) == 0
		for beg := 0; beg < len(w.data); {
			end := min(len(w.data), beg+powerSector-int((w.off+int64(beg))%powerSector))
			if kind == 1 || kind == 2 && some || kind == 3 && rnd.IntN(2) == 0 {
				if _, err := d.media.WriteAt(w.data[beg:end], w.off+int64(beg)); err != nil {
					return err
				}
			}
			beg = end
		}
	}
	for _, w := range d.cached {
		left := make([]byte, len(w.data))
		if _, err := d.media.ReadAt(left, w.off); err != nil {
			return err
		}
		if _, err := d.Device.WriteAt(left, w.off); err != nil {
			return err
		}
	}
	d.cached = nil
	return nil
}

// soon is after how many requests the power goes: few more often than many.
func (w *walker) soon() int { return 1 + w.rnd.IntN(2<<w.rnd.IntN(7)) }

// powerCut takes the power of all in the middle of something that was drawn by
// lot, or when that has just ended. What was acknowledged is there when it is
// mounted again, and of what was not, a part that was there.
func (w *walker) powerCut() error {
	move := w.cuttable()
	mounts := slices.Contains(mountMoves, move.name)
	w.half = nil
	f, whole := w.light()
	ended := make(chan error, 1)
	pool := w.pool
	go func() { ended <- move.do(w) }()
	var err error
	select {
	case err = <-ended:
	case <-f.blown:
		if !mounts { // these close it themselves
			_ = pool.Close(w.ctx) // it is dead: an error is all that can come
		}
		err = <-ended
	}
	if err != nil && !f.burnt.Load() {
		return fmt.Errorf("%s, not cut: %w", move.name, err)
	}
	w.cutIn[move.name]++
	f.out()
	w.ctx = whole
	switch {
	case mounts:
		w.openings++
	case slices.Contains(memberMoves, move.name):
		w.changes++
	}
	w.done[len(w.done)-1] += fmt.Sprintf(" in %s (%v)", move.name, err)
	return w.powerBack()
}

// cuttable is a move that may be made now, and that leaves one of the states
// that the model knows wherever it is cut.
func (w *walker) cuttable() walkMove {
	var may []walkMove
	for names := []string(nil); len(may) == 0; {
		names = [][]string{cutMoves, cutMoves, cutMoves, memberMoves, memberMoves, memberMoves, memberMoves, mountMoves}[w.rnd.IntN(8)]
		for _, move := range walkMoves() {
			if slices.Contains(names, move.name) && move.may(w) {
				may = append(may, move)
			}
		}
	}
	return draw(w.rnd, may)
}

// cutMoves are the others in which the power is cut.
var cutMoves = []string{"calls", "elsewhere", "snapshot", "hold", "erase", "rollback", "rollback-open", "bulkfree", "trim", "dedup",
	"restore", "scrub", "offline", "online", "grow", "quota", "large", "punch", "clone"}

// powerCutSome takes the power of some members, perhaps of all, while the process
// goes on. They come back with what had been flushed; what was not is still in
// memory, and no call that was made is lost.
func (w *walker) powerCutSome() error {
	if err := w.mend(); err != nil {
		return err
	}
	if _, ok := w.m.find(w.base); !ok { // of what it takes to begin anew, a part may be there
		if err := w.stepCalls(); err != nil {
			return err
		}
	}
	some := w.some()
	f := newFuse(w.soon(), func() {
		for _, i := range some {
			w.gates[i].shut.Store(true)
		}
	})
	for _, i := range some {
		w.gates[i].fuse.Store(f)
	}
	w.half = nil
	err := w.stepCalls()
	f.out()
	w.done[len(w.done)-1] += fmt.Sprintf(" of %v (%v)", some, err)
	if err != nil && !w.needed(some) && !errors.Is(err, cluster.ErrNoQuorum) { // another one may have been slow
		return err
	}
	for _, i := range some {
		w.gates[i].drain()
		if err := w.power[i].cut(w.rnd); err != nil {
			return err
		}
		w.gates[i].fuse.Store(nil)
		w.gates[i].life.Add(1)
		w.gates[i].shut.Store(false)
	}
	w.cuts++
	if err := w.reopened(some); err != nil {
		return err
	}
	for _, i := range some {
		role := w.roles[i]
		if role == "soft" {
			role = ondisk.PFSSoftMaster.String()
		}
		if err := w.until(name(i), role); err != nil {
			return err
		}
	}
	if err := w.mend(); err != nil {
		return err
	}
	list := []moment{{m: w.m}}
	if w.half != nil {
		list = append(list, moment{m: w.half})
	}
	w.moments = append(w.moments, list...)
	if err := w.same(w.moments[len(w.moments)-len(list):]); err != nil {
		return err
	}
	return w.sync()
}

// some are members, by lot.
func (w *walker) some() (list []int) {
	for len(list) == 0 {
		for _, i := range slices.Sorted(maps.Keys(w.roles)) {
			if i != w.branch && w.rnd.IntN(3) == 0 {
				list = append(list, i)
			}
		}
	}
	return list
}

// needed reports whether there is no majority without those.
func (w *walker) needed(some []int) bool {
	left := w.count("master")
	for _, i := range some {
		if w.roles[i] == "master" {
			left--
		}
	}
	return left <= w.count("master")/2
}

// reopened waits until the pool has noticed that members were away, which takes
// a commit, and has opened them again.
func (w *walker) reopened(some []int) error {
	ctx, cancel := w.bounded()
	defer cancel()
	var last error
	for ctx.Err() == nil {
		waits := false
		for _, i := range some {
			waits = waits || w.gates[i].opens.Load() < w.gates[i].life.Load()
		}
		if !waits {
			return nil
		}
		for _, n := range w.pool.Status().Nodes {
			if n.State == cluster.NodeFailed {
				_ = w.pool.NodeOnline(ctx, n.Name) // or by itself, later
			}
		}
		if w.pool.Status().Quorum.Held {
			when := &fs.Stamp{Sec: w.clock().Unix()}
			_, err := w.f.Setattr(ctx, ondisk.InumRoot, fs.Change{Mtime: when}) // which the model does not tell
			if err == nil {
				err = w.pool.Sync(ctx)
			}
			last = err // there may have been no quorum for a moment
			w.settle()
		}
		select {
		case <-w.pool.Changed():
		case <-time.After(time.Millisecond):
		}
	}
	return fmt.Errorf("they do not come back: %s; the last sync: %w", w.describe(), last)
}

// A walk whose devices do not do what they say of flushes is found out.
func TestWalkSeesLies(t *testing.T) {
	seen := 0
	for seed := uint64(1); seed <= 4; seed++ {
		w := newWalker(t, seed)
		for _, d := range w.power {
			d.lies = true
		}
		err := w.start()
		for n := 0; n < 12 && err == nil; n++ {
			if err = w.stepCalls(); err == nil {
				err = w.move(walkMove{"power-cut", 1, nil, (*walker).powerCut})
			}
		}
		if t.Log(err); err != nil {
			seen++
		}
		_ = w.close() // of what is left an error may be all that comes
	}
	if seen == 0 {
		t.Error("nothing was found")
	}
}
