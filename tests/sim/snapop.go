package sim

import (
	"errors"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
	"golang.org/x/sys/unix"
)

// A member has a snapshot of a history that was given up until it is given
// those of the list. Meanwhile a txg may make another one of that name.

// freeName is one that no snapshot has. Deleted ones had it; it is that of one
// that some member has left over, if there is one.
func (p *prim) freeName(c *content) string {
	free := func(name string) bool {
		return !slices.ContainsFunc(c.snaps, func(s snap) bool { return s.Name == name })
	}
	for _, n := range p.w.nodes {
		if !n.lags || !p.reaches(n) || n.busy() || n.taken != nil {
			continue
		}
		for _, info := range n.infos() {
			if info.SnapshotOf(n.id) && free(info.Label) {
				return info.Label
			}
		}
	}
	for i := 0; ; i++ {
		if name := fmt.Sprint("s", i); free(name) {
			return name
		}
	}
}

// infos are what is on a node's volume; none if they cannot be read.
func (n *node) infos() []chain.PFSInfo {
	infos, err := n.vol.media.Volume().PFSs(bg)
	if err != nil {
		n.w.logf("%s: %v", nodeName(n.id), err)
	}
	return infos
}

// retakes counts snapshots whose name a node has for another one.
func (n *node) retakes(b *chain.Batch) {
	infos := n.infos()
	for i := range b.Ops {
		op := &b.Ops[i]
		if op.Kind == chain.OpSnapshot && slices.ContainsFunc(infos, func(p chain.PFSInfo) bool {
			return p.Label == op.Name && p.Clid != op.Clid && p.SnapshotOf(n.id)
		}) {
			n.w.stats.Retaken++
		}
	}
}

// operated checks what the operations of a txg that is durable left, whatever
// the node had beside the list before: the snapshots made are there, those
// deleted are not, and after a rollback the whole content is what it says.
func (n *node) operated(pos core.Position, b *chain.Batch) {
	if len(b.Ops) == 0 {
		return
	}
	infos := n.infos()
	for i := range b.Ops {
		op := &b.Ops[i]
		there := slices.ContainsFunc(infos, func(p chain.PFSInfo) bool {
			return p.Label == op.Name && p.Clid == op.Clid && p.SnapshotOf(n.id)
		})
		switch {
		case op.Kind == chain.OpClone:
			n.hasClone(op.Clone)
		case n.spoilt:
		case op.Kind == chain.OpSnapshot && !there:
			n.w.fail("%s at %v has made snapshot %q, and does not have it", nodeName(n.id), pos, op.Name)
		case op.Kind == chain.OpDelete && there:
			n.w.fail("%s at %v has deleted snapshot %q, and has it", nodeName(n.id), pos, op.Name)
		case op.Kind == chain.OpRollback:
			n.matches(pos, -1)
		}
		n.countOp(op)
	}
}

// countOp counts an operation, and apart those on disks that make it hard.
func (n *node) countOp(op *chain.PFSOp) {
	s := &n.w.stats
	s.Operated++
	switch {
	case n.damages(heads, reads):
		s.OpsHurt++
	case n.damages(flushes):
		s.OpsLied++
	case n.w.kind.full:
		s.OpsTight++
	default:
		return
	}
	if op.Kind == chain.OpRollback {
		s.BackHard++
	}
}

// hasClone takes note of a clone that a node must have from now on.
func (n *node) hasClone(c *chain.CloneSpec) {
	if n.lags || !slices.Contains(c.Nodes, chain.SnapshotFsid(c.Clid, n.id)) {
		return
	}
	if n.cloned == nil {
		n.cloned = make(map[string]bool)
	}
	n.cloned[c.Label] = true
}

// provoked checks that a job failed because something did: its disk, or a
// rollback to a snapshot that a member which was copied did not get yet.
func (n *node) provoked(j *core.Job) {
	if n.vol == nil || n.spoilt {
		return
	}
	switch err := n.vol.err; {
	case n.vol.media.Volume().Failed() != nil, errors.Is(err, unix.EIO):
	case n.lags && errors.Is(err, chain.ErrNoPFS):
	case j.Txg == nil:
		n.w.fail("%s fails at a promise, and nothing failed there: %v", nodeName(n.id), err)
	default:
		n.w.fail("%s fails at %v, and nothing failed there: %v", nodeName(n.id), j.Txg.Pos, err)
	}
}

// manageFull makes a txg that does something to snapshots where disks are small.
// It may take what is kept for calls that give space back. Where space is short,
// snapshots go; in the end all of them.
func (p *prim) manageFull(T ondisk.Tid, head *content, deletes bool) (b *chain.Batch, next *content, against []*node, ok bool) {
	w := p.w
	switch n := len(head.snaps); {
	case w.trim && n > 0, deletes && n > 0 && w.chance(0.5):
		return p.dropSnapshot(T, head)
	case deletes || !w.chance(0.25):
		return nil, nil, nil, false
	}
	before := w.stats
	b, next = p.manageBy(w.rng.IntN(12), T, head, *head)
	if ok, against = p.admits(b, true); !ok {
		w.stats = before // it is refused
		w.stats.NoRoom++
		w.refusing = true
	}
	return b, next, against, ok
}

// dropSnapshot deletes the oldest one, and releases it before if it is held.
func (p *prim) dropSnapshot(T ondisk.Tid, head *content) (b *chain.Batch, next *content, against []*node, ok bool) {
	c := *head
	s := c.snaps[0]
	if len(s.Holds) > 0 {
		c.toggleHold(s.Name, p.w.now)
		b = c.batch(T, head)
	} else if op, ok := p.forget(&c, &s); ok {
		b = c.batch(T, head)
		b.Ops = append(b.Ops, op)
	}
	ok, against = p.admits(b, true)
	return b, &c, against, ok
}
