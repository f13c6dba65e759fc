package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A SnapshotName is a snapshot as a directory shows it.
type SnapshotName struct {
	Name    string
	Clid    ondisk.UUID // tells it from another of that name, before or after
	Created time.Time
}

// snapNames are the snapshots of the list as it was read last: who looks at one
// after the other has it decoded once, not each time.
type snapNames struct {
	mu    sync.Mutex
	of    []byte // as it is stored
	names []SnapshotName
}

// SnapshotNames lists the snapshots, oldest first. The caller changes nothing in
// what is returned.
func (p *Pool) SnapshotNames(ctx context.Context) ([]SnapshotName, error) {
	b, err := p.snapshotBytes(ctx)
	if err != nil || b == nil {
		return nil, err
	}
	p.snapNames.mu.Lock()
	defer p.snapNames.mu.Unlock()
	if bytes.Equal(b, p.snapNames.of) {
		return p.snapNames.names, nil
	}
	t, err := DecodeSnapshotTable(b)
	if err != nil {
		return nil, err
	}
	out := make([]SnapshotName, 0, len(t.Entries))
	for i := range t.Entries {
		e := &t.Entries[i]
		out = append(out, SnapshotName{e.Name, e.Clid, e.Created})
	}
	p.snapNames.of, p.snapNames.names = b, out
	return out, nil
}

// OpenSnapshot returns a snapshot as a pool that can be read, beside this one:
// in the same way, from the members that have it. The caller closes it before
// this one. It can be read until then, also if it is deleted meanwhile, on the
// members that had it when it was opened.
func (p *Pool) OpenSnapshot(ctx context.Context, s SnapshotName) (*Pool, error) {
	return p.openSnapshot(ctx, s, false)
}

// openSnapshot opens one quietly for who looks something up about damage: that it
// met some would have it looked up again, without end.
func (p *Pool) openSnapshot(ctx context.Context, s SnapshotName, quiet bool) (*Pool, error) {
	e := p.showSnapshot(s)
	e.quiet = quiet
	if views := e.views(); len(views) > 0 {
		for _, v := range views {
			v.View.Release()
		}
	} else {
		return nil, fmt.Errorf("snapshot %q: no member at hand has it yet: %w", s.Name, ErrNoSnapshot)
	}
	o := p.opts
	o.Label, o.ReadOnly, o.OnNoQuorum = s.Name, true, EIO
	pool, err := newPool(ctx, e, o)
	if err != nil {
		return nil, errors.Join(err, e.close(ctx))
	}
	return pool, nil
}

func (p *Pool) showSnapshot(s SnapshotName) *snapshotEngine {
	return &snapshotEngine{engineAPI: p.engine, entry: SnapshotEntry{Name: s.Name, Clid: s.Clid}, mends: &p.snapMends, mended: p.snapMends.Load(), shown: make(map[*chain.Volume]*chain.View)}
}

// A snapshotEngine is an engine that shows a snapshot: the members' volumes
// are the other engine's, so is what is known of their health.
type snapshotEngine struct {
	engineAPI
	entry SnapshotEntry
	quiet bool           // what is damaged is not passed on
	mends *atomic.Uint64 // of the pool: copies of snapshots that were overwritten

	mu     sync.Mutex // guards shown
	mended uint64     // mends that shown has
	shown  map[*chain.Volume]*chain.View
	closed bool
}

// views returns the snapshot on the members that have it, those in sync first.
func (e *snapshotEngine) views() []nodeView {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	if now := e.mends.Load(); now != e.mended {
		e.mended = now
		for vol, v := range e.shown {
			v.Release()
			delete(e.shown, vol)
		}
	}
	vols := e.volumes()
	slices.SortStableFunc(vols, func(a, b nodeVolume) int { return boolOrder(b.InSync) - boolOrder(a.InSync) })
	there := make(map[*chain.Volume]bool)
	var out []nodeView
	for _, n := range vols {
		there[n.Vol] = true
		v := e.shown[n.Vol]
		if v == nil {
			if v = e.open(n); v == nil {
				continue
			}
			e.shown[n.Vol] = v
		}
		v.Retain()
		out = append(out, nodeView{n.Node, n.Name, v.T(), v})
	}
	for vol, v := range e.shown {
		if !there[vol] {
			v.Release()
			delete(e.shown, vol)
		}
	}
	return out
}

// open returns nil if the member does not have the snapshot.
func (e *snapshotEngine) open(n nodeVolume) *chain.View {
	v, err := n.view(context.Background(), e.entry.Name)
	if err != nil {
		return nil
	}
	if e.entry.On([]chain.PFSInfo{v.PFS()}, n.Fsid) == nil {
		v.Release()
		return nil
	}
	return v
}

func (e *snapshotEngine) commit(context.Context, *chain.Batch) (bool, error) {
	return false, ErrReadOnly
}

func (e *snapshotEngine) hasQuorum() bool { return true }

func (e *snapshotEngine) changing() bool { return false }

// reportRead passes on how members answer, and what is damaged, with the name of
// the snapshot.
func (e *snapshotEngine) reportRead(node int, d time.Duration, err error, ref *chain.NodeError) {
	if members, ok := e.engineAPI.(*engine); ok && !e.quiet {
		members.readOf(node, e.entry.Name, d, err, ref)
		return
	}
	e.engineAPI.reportRead(node, d, err, nil)
}

func (e *snapshotEngine) close(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for _, v := range e.shown {
		v.Release()
	}
	e.shown = nil
	return nil
}
