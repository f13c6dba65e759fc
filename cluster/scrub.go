package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A Damage is a leaf or table of one node that cannot be read, or that differs
// from what the other nodes hold.
type Damage struct {
	Node  string `json:"node"`
	Label string `json:"pfs"`
	Leaf
	// Differs: it can be read, and other nodes have something else.
	Differs bool `json:"differs,omitempty"`
}

// DamageOf says what a failed read of a node's PFS found.
func DamageOf(node, label string, e *chain.NodeError) Damage {
	return Damage{Node: node, Label: label, Leaf: LeafOf(e)}
}

// String names the block.
func (d *Damage) String() string {
	if d.Header() {
		return fmt.Sprintf("%s, copy of the volume header at %#x", d.Node, d.Key)
	}
	return fmt.Sprintf("%s, %s of inode %d at %#x", d.Node, strings.ToLower(d.Kind.String()), d.Inum, d.Key)
}

// ErrNotRepaired: there is no verified copy to repair from, or the node cannot
// be written now.
var ErrNotRepaired = errors.New("not repaired")

// ErrNoGoodCopy: all nodes in sync have it wrong. Only who has a copy elsewhere, or
// can do without it, makes that right.
var ErrNoGoodCopy = errors.New("no other node in sync has a good copy of it")

// ErrElsewhere: what is damaged belongs to another filesystem, which has a PFS on
// the same volume. Only a mount of that one knows where its other copies are.
var ErrElsewhere = errors.New("it is of another filesystem")

// A ScrubNode is a node whose copy can be verified. Views of its volume become
// useless when it is closed; they must be released all the same.
type ScrubNode struct {
	Name   string
	Volume *chain.Volume
	Label  string // of the cluster's PFS
}

// A Pinned is a node's copy at the committed tid. Votes says that the node is
// a master.
type Pinned struct {
	Name  string
	View  *chain.View
	Votes bool
}

// ScrubNodes are the nodes that are in sync.
func (p *Pool) ScrubNodes() []ScrubNode { return p.engine.scrubNodes() }

// Waits of PinAll for members that have not caught up with the last commit.
const (
	levelTries = 50
	levelPause = 2 * time.Millisecond
	levelHold  = 500 * time.Millisecond
)

// PinAll pins the committed state of every node in sync, at one tid. If they
// are never level while changes are made, commits wait for them a moment; a
// node that is late even then is left out.
func (p *Pool) PinAll(ctx context.Context) (nodes []Pinned, release func(), err error) {
	try := func(tries int) bool {
		for range tries {
			if nodes, release = p.engine.pinAll(); len(nodes) >= len(p.engine.scrubNodes()) {
				return true
			}
			release()
			select {
			case <-time.After(levelPause):
			case <-ctx.Done():
				return false
			}
		}
		return false
	}
	if try(levelTries) {
		return nodes, release, nil
	}
	err = p.engine.hold(ctx, levelHold, func(Position) error {
		if !try(int(levelHold/levelPause) / 2) {
			nodes, release = p.engine.pinAll()
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("pinning the members at one tid: %w", err)
	}
	return nodes, release, nil
}

// ID is the cluster's id, which all members carry.
func (p *Pool) ID() ondisk.UUID { return p.engine.clusterID() }

// Label is the name of the PFS that is open.
func (p *Pool) Label() string { return p.opts.Label }

// Repair rewrites what is damaged from a copy that another node verified. It
// returns when that is durable, or why it cannot be: ErrNotRepaired, with
// ErrCopyAnew if a resync can do it.
func (p *Pool) Repair(ctx context.Context, d Damage) error { return p.engine.repairNow(ctx, d) }

// Gone asks the device of a node that did not give something whether it is there at
// all. If not, the node is given up, and what the device said is returned.
func (p *Pool) Gone(node string) error { return p.engine.notThere(node) }

// scrubNodes lists the members in sync.
func (e *engine) scrubNodes() []ScrubNode {
	var out []ScrubNode
	for _, v := range e.attached() {
		if v.report.State == NodeInSync && v.readable {
			out = append(out, ScrubNode{v.report.Name, v.conn.vol, v.conn.label})
		}
	}
	return out
}

// pinAll pins what readers see of every member at the committed txg.
func (e *engine) pinAll() (nodes []Pinned, release func()) {
	at := e.committed().T
	e.wantLevel()
	for _, v := range e.readable() {
		view, pos, _, ok := v.conn.shown()
		switch {
		case !ok:
		case pos.T != at:
			view.Release()
		default:
			nodes = append(nodes, Pinned{v.report.Name, view, v.master})
		}
	}
	return nodes, func() {
		for i := range nodes {
			nodes[i].View.Release()
		}
	}
}

// repairNow is repair of what somebody else found.
func (e *engine) repairNow(ctx context.Context, d Damage) error {
	var m *member
	if e.o.ReadOnly || e.solo && !d.Header() {
		why := "there is no other copy, or nothing may be written"
		if d.root() && d.Inum == 0 && d.Key != 0 {
			why += "; " + d.givenUp() + ", gives it up"
		}
		return fmt.Errorf("%v: %w: %s", &d, ErrNotRepaired, why)
	}
	if !e.ask(func() { m = e.byName(d.Node) }) {
		return ErrPoolClosed
	}
	switch {
	case m == nil:
		return fmt.Errorf("%v: %w: the node is gone", &d, ErrNotRepaired)
	case d.Differs:
		return fmt.Errorf("%v: %w: which copy is right only a scrub finds out", &d, ErrNotRepaired)
	}
	var err error
	switch {
	case d.Header():
		err = e.repairHeader(ctx, m, d)
	case d.root():
		err = e.repairRoot(ctx, m, d)
	case d.Label != "" && d.Label != e.o.Label:
		err = e.mendSnapshot(ctx, m, d)
	case e.readsNow(ctx, m, d): // its whole tree would be copied for nothing
	default:
		err = e.repair(ctx, damage{m: m, Leaf: d.Leaf})
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%v: %w: %w", &d, ErrNotRepaired, err)
	}
	return err
}

// mendSnapshot writes the bytes of a snapshot's damaged data block in place,
// from another member's copy of it: data is stored alike on all of them, and
// what is written has the check code that the damaged block should have. Every
// PFS that shares the block is healed with it. Tables are each member's own, and
// not all places can be written: ErrCopyAnew.
func (e *engine) mendSnapshot(ctx context.Context, m *member, d Damage) error {
	var bad *memberView
	var others []memberView
	for _, v := range e.attached() {
		switch {
		case v.m == m:
			bad = &v
		case v.readable:
			others = append(others, v)
		}
	}
	if bad == nil {
		return fmt.Errorf("%w: it is not open", ErrNotInSync)
	}
	view, err := bad.conn.vol.View(ctx, d.Label)
	if errors.Is(err, chain.ErrNoPFS) {
		return nil // the snapshot is gone, and what was bad in it
	}
	if err != nil {
		return err
	}
	defer view.Release() // until then the block is not reused
	if d.Kind != ondisk.TypeData {
		if still, err := d.unreadable(ctx, bad.conn.vol, d.Label); !still || err != nil {
			return err
		}
		return fmt.Errorf("a table is damaged: %w", ErrCopyAnew)
	}
	ref, found, err := dataRef(ctx, view, d.Inum, d.Key)
	if err != nil || !found {
		return err // the snapshot has no such block: nothing is bad
	}
	for _, v := range others {
		block, err := fetchBlock(ctx, v.conn.vol, d.Label, d.Inum, d.Key)
		if err != nil || block.Code != ref.Check || block.Radix != ref.Radix() {
			continue
		}
		switch written, err := bad.conn.vol.Mend(ctx, &ref, block.Bytes); {
		case errors.Is(err, chain.ErrVolumeFailed) || ctx.Err() != nil:
			return err
		case err != nil: // its place is not to be written, or does not take it
			return fmt.Errorf("%w: %w", ErrCopyAnew, err)
		case !written:
			return nil
		}
		m.repaired.Add(1)
		e.log.Info("repaired", "member", d.Node, "from", v.report.Name, "snapshot", d.Label, "inode", d.Inum, "key", d.Key)
		return nil
	}
	return ErrNoGoodCopy
}

func fetchBlock(ctx context.Context, vol *chain.Volume, label string, inum, key uint64) (*ondisk.EncodedBlock, error) {
	v, err := vol.View(ctx, label)
	if err != nil {
		return nil, err
	}
	defer v.Release()
	ref, found, err := dataRef(ctx, v, inum, key)
	if err != nil || !found {
		return nil, errors.Join(err, ErrNotRepaired)
	}
	return v.ReadBlock(ctx, &ref)
}

// Overwrite makes a leaf of one node what another has: for copies that can both
// be read and differ. still reports whether the node's version is the one that
// lost the vote; a txg that changed the leaf since has changed it there, too.
func (p *Pool) Overwrite(ctx context.Context, node, from string, c chain.Change, still func(*chain.View) (bool, error)) error {
	err := p.engine.overwrite(ctx, node, from, c, still)
	if err == nil {
		p.refresh() // who reads after this gets the right copy
	}
	return err
}

// Refresh has reads that begin later see what members hold now.
func (p *Pool) Refresh() { p.refresh() }

func (e *engine) overwrite(ctx context.Context, node, from string, c chain.Change, still func(*chain.View) (bool, error)) error {
	if e.o.ReadOnly || e.solo {
		return ErrNotRepaired
	}
	nodes := e.attached()
	i := slices.IndexFunc(nodes, func(v memberView) bool { return v.report.Name == node && v.readable })
	if i < 0 {
		return fmt.Errorf("%s: %w: the node is not in sync", node, ErrNotRepaired)
	}
	v := nodes[i]
	written, err := v.conn.Replace(ctx, c, still)
	if err == nil && written {
		err = v.conn.showAgain(ctx)
	}
	switch {
	case errors.Is(err, chain.ErrVolumeFailed):
		e.post(func() { e.fail(v.m, err.Error()) })
	case err == nil && written:
		v.m.repaired.Add(1)
		e.mu.Lock()
		e.announce() // or readers keep the tree with the wrong copy until the next commit
		e.mu.Unlock()
		e.log.Info("a differing copy was overwritten", "member", node, "from", from, "inode", c.Inum, "key", c.Key)
	}
	return err
}
