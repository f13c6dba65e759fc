package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// In some seeds txgs make, hold and delete snapshots, clone them, and roll back
// to them, as the pool does it: the list and the operations in one txg. Members
// that were copied meanwhile get what they missed (snapcopy.go).
//
// Checked: a member has the snapshots of the list at its position and no others,
// each with all that was there when it was made; one that is held is never
// deleted; a clone is what its snapshot is. A rollback is whole or absent, after
// each power cut too: the content at a position is compared like any other.

const (
	maxSnaps  = 4
	maxClones = 2
)

// A snap is a snapshot of the list.
type snap struct {
	cluster.SnapshotEntry
	has *content
}

// A clone is a filesystem that was made of a snapshot.
type clone struct {
	spec *chain.CloneSpec
	has  *content
}

// table is the list of snapshots.
func (c *content) table() *cluster.SnapshotTable {
	t := &cluster.SnapshotTable{}
	for i := range c.snaps {
		t.Entries = append(t.Entries, c.snaps[i].SnapshotEntry)
	}
	return t
}

// encoded is the list as the PFS has it; nil before the first snapshot.
func (c *content) encoded() []byte {
	if c.snaps == nil {
		return nil
	}
	b, err := cluster.EncodeSnapshotTable(c.table())
	if err != nil {
		panic(err)
	}
	return b
}

// list adds what changes the list of old into that of c.
func (c *content) list(old *content, add func(chain.Change)) {
	if is := c.encoded(); !bytes.Equal(is, old.encoded()) {
		addList(is, add)
	}
}

func addList(list []byte, add func(chain.Change)) {
	meta := ondisk.NewInodeMeta(ondisk.InumSnapshots, ondisk.ObjFile)
	meta.Mode, meta.Nlinks, meta.Iparent, meta.Size = 0o600, 1, ondisk.InumRoot, uint64(len(list))
	meta.CompAlgo, meta.CheckAlgo = uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64)
	block, _, err := ondisk.EncodeData(list, meta.CompAlgo, meta.CheckAlgo)
	if err != nil {
		panic(err)
	}
	add(chain.Change{Inum: ondisk.InumSnapshots, Kind: chain.KindInode, Inode: &meta})
	add(chain.Change{Inum: ondisk.InumSnapshots, Kind: chain.KindData, Block: block})
}

// checkList compares the list in a view.
func (c *content) checkList(ctx context.Context, v *chain.View) error {
	t, err := cluster.ReadSnapshotTable(ctx, v)
	if err != nil {
		return err
	}
	var have []byte
	if len(t.Entries) > 0 || c.snaps != nil {
		if have, err = cluster.EncodeSnapshotTable(t); err != nil {
			return err
		}
	}
	if want := c.encoded(); !bytes.Equal(have, want) {
		return differs("the list of snapshots is %v instead of %v", t.Entries, c.table().Entries)
	}
	return nil
}

func (w *world) newID() (id ondisk.UUID) {
	binary.LittleEndian.PutUint64(id[:], w.rng.Uint64())
	id[15] = 3
	return id
}

// manage makes a txg that does something to snapshots, beside calls.
func (p *prim) manage(T ondisk.Tid, head *content) (*chain.Batch, *content) {
	w, c := p.w, *head
	for range w.rng.IntN(3) {
		c.operate(w.rng, head, false)
	}
	return p.manageBy(w.rng.IntN(12), T, head, c)
}

// manageBy goes on from c, by the number that was drawn.
func (p *prim) manageBy(x int, T ondisk.Tid, head *content, c content) (*chain.Batch, *content) {
	w := p.w
	if len(c.snaps) == 0 || x < 4 && len(c.snaps) < maxSnaps {
		op := p.takeSnapshot(&c, p.freeName(&c))
		b := c.batch(T, head)
		b.Ops = append(b.Ops, op)
		w.stats.Snapshots++
		return b, &c
	}
	s := c.snaps[w.rng.IntN(len(c.snaps))]
	switch {
	case x < 7:
		if op, ok := p.forget(&c, &s); ok {
			b := c.batch(T, head)
			b.Ops = append(b.Ops, op)
			return b, &c
		}
	case x == 7:
		c.toggleHold(s.Name, w.now)
	case x < 10:
		if p.canRollBack(&s) {
			return p.rollBack(T, head, &c, &s)
		}
	default:
		if op, ok := p.newClone(&c, &s); ok {
			b := c.batch(T, head)
			b.Ops = append(b.Ops, op)
			return b, &c
		}
	}
	return c.batch(T, head), &c
}

// takeSnapshot puts a snapshot of c into its list.
func (p *prim) takeSnapshot(c *content, name string) chain.PFSOp {
	e := cluster.SnapshotEntry{Name: name, Clid: p.w.newID(), After: p.core.Committed().T, Created: time.Unix(1e9, 0).Add(p.w.now).UTC()}
	c.snaps = append(slices.Clone(c.snaps), snap{e, nil})
	now := *c
	now.snaps[len(now.snaps)-1].has = &now
	return chain.PFSOp{Kind: chain.OpSnapshot, Name: name, Clid: e.Clid}
}

// forget takes a snapshot off the list, unless it is held.
func (p *prim) forget(c *content, s *snap) (op chain.PFSOp, ok bool) {
	w, t := p.w, c.table()
	op, err := t.Delete(s.Name, time.Unix(1e9, 0).Add(w.now))
	switch held := len(s.Holds) > 0; {
	case held && errors.Is(err, cluster.ErrHeld):
		w.stats.Kept++
		return op, false
	case held || err != nil:
		w.fail("snapshot %q with holds %v is deleted: %v", s.Name, s.Holds, err)
		return op, false
	}
	c.snaps = slices.DeleteFunc(slices.Clone(c.snaps), func(o snap) bool { return o.Name == s.Name })
	w.stats.Unmade++
	return op, true
}

// toggleHold holds a snapshot, or releases it.
func (c *content) toggleHold(name string, now time.Duration) {
	c.snaps = slices.Clone(c.snaps)
	for i := range c.snaps {
		switch s := &c.snaps[i]; {
		case s.Name != name:
		case len(s.Holds) > 0:
			s.Holds = nil
		default:
			s.Holds = []cluster.Hold{{Owner: "sim", Since: time.Unix(1e9, 0).Add(now).UTC()}}
		}
	}
}

// canRollBack reports whether a pool would roll back: not while a member within
// reach lacks the snapshot.
func (p *prim) canRollBack(s *snap) bool {
	for _, n := range p.w.nodes {
		if p.reaches(n) && !n.hasSnapshot(s) {
			return false
		}
	}
	return true
}

func (n *node) hasSnapshot(s *snap) bool {
	if n.vol.media == nil {
		return false
	}
	infos, err := n.vol.media.Volume().PFSs(bg)
	return err == nil && s.On(infos, n.id) != nil
}

// rollBack makes the txg that puts back what s has. What there was, c, is kept
// as a snapshot at times.
func (p *prim) rollBack(T ondisk.Tid, head, c *content, s *snap) (*chain.Batch, *content) {
	w := p.w
	var ops []chain.PFSOp
	if len(c.snaps) < maxSnaps && w.chance(0.5) {
		ops = append(ops, p.takeSnapshot(c, p.freeName(c)))
	}
	b := c.batch(T, head)
	if len(ops) == 0 { // the list is brought whole, also if it is the same
		kept := b.Changes[:0]
		for _, ch := range b.Changes {
			if ch.Inum != ondisk.InumSnapshots {
				kept = append(kept, ch)
			}
		}
		b.Changes = kept
		addList(c.encoded(), func(ch chain.Change) { b.Changes = append(b.Changes, ch) })
		b.Sort()
	}
	b.Ops = append(ops, chain.PFSOp{Kind: chain.OpRollback, Name: s.Name, Clid: s.Clid, To: s.After})
	w.stats.Rollbacks++
	w.logf("p%d rolls back to %s", p.index, s.Name)
	return b, &content{f: s.has.f, snaps: c.snaps, clones: c.clones}
}

// newClone makes a filesystem of a snapshot, on the members that have it.
func (p *prim) newClone(c *content, s *snap) (op chain.PFSOp, ok bool) {
	w := p.w
	if len(c.clones) == maxClones || w.kind.full && (w.trim || len(c.clones) > 0) {
		return op, false
	}
	spec := &chain.CloneSpec{Clid: w.newID()}
	spec.Label = fmt.Sprintf("clone-%x", spec.Clid[:8])
	cfg := cluster.Config{Version: 1}
	for _, m := range p.core.Charter().Config.Members {
		n := w.nodes[m.Fsid[0]-1]
		if !p.reaches(n) || n.core.State().Flags != 0 || !n.hasSnapshot(s) {
			continue
		}
		fsid := chain.SnapshotFsid(spec.Clid, m.Fsid)
		spec.Nodes = append(spec.Nodes, fsid)
		cfg.Members = append(cfg.Members, cluster.Member{Fsid: fsid, Role: m.Role, Incarnation: chain.CloneIncarnation(fsid)})
	}
	if err := cluster.FoundClone(p.core.Committed().T, spec, cfg); err != nil {
		return op, false // too few have it
	}
	c.clones = append(slices.Clone(c.clones), clone{spec, &content{f: s.has.f}})
	w.stats.Clones++
	if w.kind.full {
		w.stats.TightClones++
	}
	return chain.PFSOp{Kind: chain.OpClone, Name: s.Name, Clid: s.Clid, Clone: spec}, true
}

// beside compares what stands beside a node's PFS with the content at its
// position. Where it may lag, snapshots may be missing, or be left over.
func (n *node) beside(c *content) {
	if err := n.checkBeside(c); err != nil {
		if _, wrong := err.(*mismatch); wrong || !n.spoilt {
			n.w.fail("snapshots of %s at %v: %v", nodeName(n.id), n.durable.Pos, err)
		}
	}
}

func (n *node) checkBeside(c *content) error {
	infos, err := n.vol.media.Volume().PFSs(bg)
	if err != nil {
		return err
	}
	for i := range infos {
		p := &infos[i]
		listed := slices.ContainsFunc(c.snaps, func(s snap) bool { return s.On(infos[i:i+1], n.id) != nil })
		if !n.lags && !listed && (p.SnapshotOf(n.id) || strings.HasPrefix(p.Label, ".anvilfs-snapcopy-")) {
			return differs("%s is there, and not in the list", p.Label)
		}
	}
	for i := range c.snaps {
		s := &c.snaps[i]
		if s.On(infos, n.id) == nil {
			if n.lags {
				continue
			}
			return differs("%s is missing", s.Name)
		}
		if err := n.holds(s.Name, s.has); err != nil {
			return err
		}
	}
	for _, k := range c.clones {
		fsid := chain.SnapshotFsid(k.spec.Clid, n.id)
		there := slices.ContainsFunc(infos, func(p chain.PFSInfo) bool { return p.Label == k.spec.Label && p.Fsid == fsid })
		switch {
		case !there && n.cloned[k.spec.Label]:
			return differs("%s is missing", k.spec.Label)
		case !there:
			continue
		}
		if e, ok := n.vol.media.Volume().State(fsid); !ok || e.T != k.spec.First.T {
			return differs("%s is at %v %v instead of %v", k.spec.Label, ok, e.T, k.spec.First.T)
		}
		if err := n.holds(k.spec.Label, k.has); err != nil {
			return err
		}
	}
	return nil
}

// holds compares a PFS beside the node's own.
func (n *node) holds(label string, c *content) error {
	v, err := n.vol.media.Volume().View(bg, label)
	if err != nil {
		return err
	}
	defer v.Release()
	n.w.stats.Beside++
	err = c.check(bg, v)
	if m, wrong := err.(*mismatch); wrong {
		return differs("%s: %s", label, m.text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", label, err)
	}
	return nil
}

// onSnapshots takes note of a job that does something to snapshots. Its disk
// loses power in the middle of it more often than of others.
func (n *node) onSnapshots(j *core.Job) {
	w := n.w
	if n.vol == nil || j.Txg == nil || len(j.Txg.Batch.(*chain.Batch).Ops) == 0 {
		return
	}
	n.atOps = true
	n.retakes(j.Txg.Batch.(*chain.Batch))
	if w.calm || !w.chance(0.2) {
		return
	}
	life := n.life
	w.stats.Faults++
	w.after(time.Duration(1+w.rng.IntN(25))*time.Millisecond, func() {
		if n.life == life && !w.calm {
			w.bounce(n, true)
		}
	})
}
