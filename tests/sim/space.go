package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// In some seeds disks are full: on volumes of one size another PFS, the
// ballast, leaves each a different rest. Txgs are admitted as a mount admits
// calls, against the smallest master that is there; what does not fit is refused,
// and then files are deleted and unused space is looked for. A member may still
// find no space: slaves are not asked, and a master that comes back with less
// room than the others was not. It is left out, looks for space, and returns.
//
// Checked: a txg never fails for space on a member that it was admitted
// against, nor a promise on any. Clones are made, and deleted by each member in
// the end (tight.go). In the end there is room again, and a member
// that still is full has failed L2.

const ballast = "BALLAST"

// rooms are what volumes have left, in KiB, the reserve included: where masters
// have about the same, and where one of them decides. Slaves have the least.
var rooms = [...][5]uint64{{4400, 5000, 4000, 1300, 1900}, {6000, 2400, 5000, 1900, 1300}}

// costFree is what a deletion takes at most, in leaves and bytes.
const deleteLeaves, deleteBytes = 6, 64 << 10

// load fills a volume until room bytes are left. The blocks are zeros, which a
// device in memory need not keep.
func load(v *chain.Volume, d *memdev.Device, room uint64) error {
	zeros, _, err := ondisk.EncodeData(make([]byte, ondisk.LogicalBlock), uint8(ondisk.CompNone), uint8(ondisk.CheckXXHash64))
	if err != nil {
		return err
	}
	meta := ondisk.NewInodeMeta(firstFile, ondisk.ObjFile)
	for key := uint64(0); v.Space().Free > room+ondisk.LogicalBlock; {
		n, first := min(max(64, v.Space().Free/ondisk.LogicalBlock/32), (v.Space().Free-room)/ondisk.LogicalBlock), key
		b := &chain.Batch{T: v.Header().MirrorTid + 1, Changes: []chain.Change{{Inum: firstFile, Kind: chain.KindInode, Inode: &meta}}}
		for range n {
			b.Changes = append(b.Changes, chain.Change{Inum: firstFile, Kind: chain.KindData, Key: key, Block: zeros})
			key += ondisk.LogicalBlock
		}
		meta.Size = key
		t, err := v.Begin(bg)
		if err != nil {
			return err
		}
		t.UseReserve()
		if err := errors.Join(t.Apply(bg, ballast, b), t.Commit(bg)); err != nil {
			return err
		}
		if err := forget(v, d, first, key); err != nil {
			return err
		}
	}
	return nil
}

// forget has the device keep nothing of the ballast's blocks in [from, to).
func forget(v *chain.Volume, d *memdev.Device, from, to uint64) error {
	view, err := v.View(bg, ballast)
	if err != nil {
		return err
	}
	defer view.Release()
	walked := view.DataRefs(bg, firstFile, from, to, func(r *ondisk.Blockref) bool {
		err = d.Discard(int64(r.Off()), int64(r.Size()))
		return err == nil
	})
	return errors.Join(err, walked)
}

// admits reports whether a mount would admit that batch now, and against which
// members: those masters that take part, and to give space back those that are
// in sync, or as many of these as it takes to commit.
func (p *prim) admits(b *chain.Batch, frees bool) (ok bool, against []*node) {
	least, tables := chain.Space{}, int64(8)
	whole, free := ^uint64(0), make(map[ondisk.UUID]uint64)
	for _, n := range p.w.nodes {
		if p.away[n.index] || !p.reaches(n) || n.vol.media == nil || !p.core.Charter().Config.IsMaster(n.id) {
			continue
		}
		s := n.vol.media.Volume().Space()
		if len(against) == 0 || s.Avail() < least.Avail() {
			least = s
		}
		against = append(against, n)
		whole = min(whole, s.Whole)
		if n.core.State().Pos == p.core.Head() {
			free[n.id] = s.Free
		}
		if v := n.vol.view(); v != nil {
			tables = max(tables, cluster.Tables(v.Root()))
			v.Release()
		}
	}
	need, data := worstCase(b, tables)
	if !frees {
		reserved := int64(min(least.Reserved, least.Free))
		ok = cluster.Fits(need, int64(least.Free), reserved, false)
		return ok && (data == 0 || cluster.Fits(need, int64(whole), reserved, false)), against
	}
	need = max(need, cluster.WorstCase(deleteLeaves, deleteLeaves, deleteBytes, tables))
	all, enough, ok := cluster.Removable(&p.core.Charter().Config, free)
	if p.w.refusing || p.w.trim { // all that is free was looked for
		all = enough
	}
	against = slices.DeleteFunc(against, func(n *node) bool { return free[n.id] < uint64(need) })
	return ok && cluster.Fits(need, int64(all), 0, true), against
}

// worstCase is what a batch takes at most in a tree of that many tables, as
// the pool has it, and how much of that are blocks of data.
func worstCase(b *chain.Batch, tables int64) (need, data int64) {
	inodes := make(map[uint64]bool)
	for i := range b.Changes {
		inodes[b.Changes[i].Inum] = true
		if b.Changes[i].Block != nil {
			data += ondisk.LogicalBlock // what it compresses to is not known in time
		}
	}
	return cluster.WorstCase(int64(len(b.Changes)), int64(len(inodes)), data, tables), data
}

// fill makes the next txg of a primary where disks are small: as many
// operations as are admitted. If that is none, the txg is empty, which nobody
// admitted.
func (p *prim) fill(T ondisk.Tid, head *content) (b *chain.Batch, next *content, against []*node) {
	w, c := p.w, *head
	deletes := w.trim || w.refusing
	if w.kind.snaps {
		if b, next, against, ok := p.manageFull(T, head, deletes); ok {
			return b, next, against
		}
	}
	ops := 1 + w.rng.IntN(w.kind.busy)
	if deletes {
		ops = 1 + w.rng.IntN(4)
	}
	b = c.batch(T, head)
	for i := range ops {
		last, lastBatch := c, b
		if deletes {
			if !c.remove(w, head) && w.trim {
				c.touch(w.rng, head)
			}
		} else {
			c.operate(w.rng, head, true)
		}
		b = c.batch(T, head)
		ok, at := p.admits(b, deletes)
		if !ok {
			w.stats.NoRoom++
			w.logf("p%d refuses operation %d: no room", p.index, i)
			w.refusing = true
			p.makeRoom()
			c, b = last, lastBatch
			break
		}
		against = at
		w.stats.Operations++
	}
	if deletes && !w.trim && w.chance(0.4) {
		w.refusing = false
	}
	return b, &c, against
}

// remove deletes a file, in the end all that have blocks.
func (c *content) remove(w *world, head *content) bool {
	first := w.rng.IntN(files)
	for i := range c.f {
		if k := (first + i) % files; k%2 == 1 && c.f[k].born != 0 && head.f[k].born != 0 {
			c.f[k] = file{}
			return true
		}
	}
	return false
}

// granted takes note of who a txg was admitted against.
func (p *prim) granted(pos core.Position, against []*node) {
	for _, n := range against {
		if n.taken == nil && n.core.State().Flags == 0 && n.core.State().Pos == p.w.check.prev[pos] {
			n.granted = pos
		}
	}
}

// full: a job found no space. What was admitted must have it.
func (n *node) full(j *core.Job) {
	w := n.w
	w.stats.Full++
	n.isFull, n.noRoom = true, true
	switch {
	case n.spoilt: // what can be allocated is not what is free
	case j.Txg == nil:
		w.fail("space: %s has none for a promise: %v", nodeName(n.id), n.vol.err)
	case j.Txg.Pos == n.granted:
		w.fail("space: %v was admitted, and %s has none: %v, %+v", j.Txg.Pos, nodeName(n.id), n.vol.err, n.vol.media.Volume().Space())
	}
	w.logf("%s is full: %v", nodeName(n.id), n.vol.err)
}

// makeRoom is what a mount does before it refuses a call: all members look for
// unused space.
func (p *prim) makeRoom() {
	if !p.w.chance(0.4) {
		return
	}
	for _, n := range p.w.nodes {
		if p.reaches(n) {
			n.chore(func() error {
				v := n.vol.media.Volume()
				if err := v.DrainFrees(bg); err != nil {
					return err
				}
				_, err := v.Bulkfree(bg, chain.BulkfreeOptions{})
				return err
			}, func() {})
		}
	}
}

// chore has a node look for space, flush by flush; done is called when it has.
// Jobs that come meanwhile wait for its end, as they wait for the volume.
func (n *node) chore(find func() error, done func()) bool {
	if n.core == nil || n.hung || n.taken != nil || n.busy() {
		return false
	}
	v := n.vol
	before := v.media.Volume().Space().Free
	n.chores = true
	v.run(func() { v.err = find() })
	n.later(func(f diskFault) bool {
		if !v.advance(f) {
			return false
		}
		n.chores = false
		if v.media.Volume().Failed() != nil {
			n.maybe = append(n.maybe, n.durable.Pos)
			n.crash(false)
			n.openLater(50 * time.Millisecond)
			return true
		}
		n.w.stats.Bulkfrees++
		if after := v.media.Volume().Space().Free; after > before {
			n.w.stats.Regained += int(after-before) >> 10
		}
		n.w.logf("%s looked for space: %d bytes free, then %d, %v", nodeName(n.id), before, v.media.Volume().Space().Free, v.err)
		if j := n.waiting; j != nil {
			n.waiting = nil
			n.start(j)
		}
		done()
		return true
	})
	return true
}

// busy reports whether the disk is at something.
func (n *node) busy() bool { return n.core.Busy() || n.chores }

// retryFull attaches a node again after it looked for space, as a mount does.
func (p *prim) retryFull(n *node) {
	if n.vol == nil {
		p.retry(n)
		return
	}
	p.step(core.Detach{Node: n.id})
	if !n.chore(func() error { return n.vol.media.MakeRoom(bg) }, func() { p.retry(n) }) {
		p.retry(n)
	}
}

// stayAway takes a node away for so long that the others go on without it.
func (w *world) stayAway(n *node) {
	if n.core == nil {
		return
	}
	n.crash(w.chance(0.5))
	n.openLater(time.Duration(800+w.rng.IntN(1500)) * time.Millisecond)
}

// room is what the volume of node i has left. On large ones more is reserved, and
// that they are founded takes some.
func (s *shape) room(i int, reserved uint64) uint64 {
	if s.slots {
		reserved += 1 << 20
	}
	return rooms[s.full-1][i]<<10 + reserved - min(reserved, 1280<<10)
}
