package cluster

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// onTree calls fn with the views of s, best first, until one answers. What
// went wrong on the others is reported. fn must start over on each call, and
// read with the context it gets: while there are several views, a device that
// does not answer is not waited for. If all are slow, they are asked again with
// more patience, and so are those that came since. What is wrong on all of them
// may be right on a member that is a txg behind for a moment: it is waited for.
// If all devices are gone, it waits for their return, as a mount without quorum does.
func (p *Pool) onTree(ctx context.Context, s *state, fn func(context.Context, *chain.View) error) error {
	err := p.onTreeOnce(ctx, s, fn)
	if passes(err) {
		err = p.onTreeOnce(ctx, s, fn)
	}
	return err
}

// passes reports whether an error that all nodes gave may be over: a device
// failed a request and is there now. One more try tells a bad spot from that.
func passes(err error) bool {
	var node *chain.NodeError
	return errors.As(err, &node) && !errors.Is(err, ondisk.ErrCorrupt)
}

func (p *Pool) onTreeOnce(ctx context.Context, s *state, fn func(context.Context, *chain.View) error) error {
	views, seen, began := s.views, s, time.Now()
	for round := 0; ; round++ {
		if round > 0 || len(views) == 0 {
			fresh, err := p.waitViews(ctx)
			if err != nil {
				return err
			}
			defer fresh.release()
			views, seen = fresh.views, fresh
		}
		changed := *p.viewsCh.Load()
		late, gone, err := false, true, error(nil)
		views = p.hedge.order(views)
		for i := range views {
			v := &views[i]
			patient := ctx
			if !p.opts.single {
				patient = chain.Patient(ctx, p.hedge.threshold()<<min(round, maxPatience), p.hedge.late(v.Node))
			}
			if err = fn(patient, v.View); errors.Is(err, chain.ErrLate) && ctx.Err() == nil {
				late = true
			} else if err == nil || !p.readFailed(ctx, v, err) {
				return err
			} else {
				gone = gone && p.gone(v, err)
			}
		}
		if late || !gone && p.awaitLate(ctx, began, views) {
			continue
		}
		if !gone || p.opts.OnNoQuorum == EIO {
			return err
		}
		if err := p.awaitOther(ctx, seen, changed); err != nil {
			return err
		}
	}
}

// gone reports whether a read failed with the node's whole device, or since
// the node was given up.
func (p *Pool) gone(v *nodeView, err error) bool {
	return !errors.Is(err, ondisk.ErrCorrupt) && (errors.Is(err, chain.ErrClosed) || p.engine.gone(v.Node))
}

// awaitLate waits until a member can be read that is not among those tried. false:
// there is none, or it is later than a device may be.
func (p *Pool) awaitLate(ctx context.Context, began time.Time, tried []nodeView) bool {
	var mask uint64
	for i := range tried {
		mask |= nodeBit(tried[i].Node)
	}
	ctx, cancel := context.WithDeadline(ctx, began.Add(p.opts.Deadline))
	defer cancel()
	for {
		changed := *p.viewsCh.Load()
		s := p.acquire()
		came := slices.ContainsFunc(s.views, func(v nodeView) bool { return mask&nodeBit(v.Node) == 0 })
		s.release()
		if came || !p.engine.coming(mask) {
			return came
		}
		if p.awaitViews(ctx, changed) != nil {
			return false
		}
	}
}

// awaitOther waits until the state is not s. changed was taken before.
func (p *Pool) awaitOther(ctx context.Context, s *state, changed <-chan struct{}) error {
	if p.state.Load() != s {
		return nil
	}
	return p.awaitViews(ctx, changed)
}

// awaitViews waits until the views may be others than before.
func (p *Pool) awaitViews(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.ctx.Done():
		return ErrPoolClosed
	}
}

// readFailed reports an error to the engine. false: it is not the node's.
func (p *Pool) readFailed(ctx context.Context, v *nodeView, err error) bool {
	if ctx.Err() != nil || errors.Is(err, chain.ErrNoInode) || errors.Is(err, context.Canceled) {
		return false
	}
	var where *chain.NodeError
	errors.As(err, &where)
	p.engine.reportRead(v.Node, 0, err, where)
	return true
}

// waitViews waits until some node may serve reads. The layers of the state it
// returns are younger than the caller's, which does no harm: what the caller
// did not find in its own overlays is in the tree below.
func (p *Pool) waitViews(ctx context.Context) (*state, error) {
	for {
		changed := *p.viewsCh.Load()
		s := p.acquire()
		if len(s.views) > 0 {
			return s, nil
		}
		s.release()
		if p.ctx.Err() != nil {
			return nil, ErrPoolClosed
		}
		if p.engine.stale() {
			return nil, ErrStale
		}
		if p.opts.OnNoQuorum == EIO {
			return nil, ErrNoQuorum
		}
		if err := p.awaitViews(ctx, changed); err != nil {
			return nil, err
		}
	}
}

// Inode returns the record of an inode. ok is false if there is none.
func (p *Pool) Inode(ctx context.Context, inum uint64) (in *Inode, ok bool, err error) {
	s := p.acquire()
	defer s.release()
	return p.inodeUnder(ctx, s, s.layers(), inum)
}

// inodeAs returns the record as o sees it: what is younger does not count.
func (p *Pool) inodeAs(ctx context.Context, o *overlay, inum uint64) (in *Inode, ok bool, err error) {
	s := p.acquire()
	defer s.release()
	return p.inodeUnder(ctx, s, s.under(o), inum)
}

// inodeUnder looks in the layers, top first, then in the tree.
func (p *Pool) inodeUnder(ctx context.Context, s *state, layers [maxLayers]*overlay, inum uint64) (in *Inode, ok bool, err error) {
	for _, o := range layers {
		if o == nil {
			continue
		}
		if in, known := o.record(inum); known {
			return in, in != nil, nil
		}
		if o.isNew(inum) {
			return nil, false, nil
		}
	}
	err = p.onTree(ctx, s, func(ctx context.Context, v *chain.View) error {
		rec, found, err := v.Inode(ctx, inum)
		if found {
			in, ok = inodeOf(rec), true
		}
		return err
	})
	return in, ok && err == nil, err
}

// Lookup finds a name in a directory. ok is false if it is not there, the
// directory included.
func (p *Pool) Lookup(ctx context.Context, dir uint64, name string) (d ondisk.Dirent, ok bool, err error) {
	s := p.acquire()
	defer s.release()
	hash := ondisk.NameHash(name)
	layers := s.layers()
	for i, o := range layers {
		if o == nil {
			continue
		}
		d, found, end := o.lookup(dir, hash, name)
		if found && !hiddenKey(layers[:i], dir, d.Key) {
			return d, true, nil
		}
		if found || end || o.isNew(dir) {
			return ondisk.Dirent{}, false, nil
		}
	}
	err = p.onTree(ctx, s, func(ctx context.Context, v *chain.View) error {
		var err error
		d, ok, err = v.Lookup(ctx, dir, name)
		return err
	})
	if errors.Is(err, chain.ErrNoInode) {
		return ondisk.Dirent{}, false, nil
	}
	if err != nil || !ok || hiddenKey(layers[:], dir, d.Key) {
		return ondisk.Dirent{}, false, err
	}
	return d, true, nil
}

// lookup finds a live entry. end says that the layers below do not count.
func (o *overlay) lookup(dir, hash uint64, name string) (d ondisk.Dirent, found, end bool) {
	n := o.find(dir)
	if n == nil {
		return d, false, false
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if e := n.dir.name(hash, name); e != nil {
		return e.Dirent, true, false
	}
	return d, false, n.deleted
}

// hiddenKey reports that one of the layers decides about key.
func hiddenKey(layers []*overlay, dir, key uint64) bool {
	for _, o := range layers {
		n := o.find(dir)
		if n == nil {
			continue
		}
		n.mu.RLock()
		e := n.dir.key(key)
		n.mu.RUnlock()
		if e != nil {
			return true
		}
	}
	return false
}

// ReadDir calls fn for the entries of dir with keys from from on, in the order
// of their keys, until it returns false. A key stays the same as long as the
// entry lives. Without the directory there are no entries.
func (p *Pool) ReadDir(ctx context.Context, dir, from uint64, fn func(ondisk.Dirent) bool) error {
	s := p.acquire()
	defer s.release()
	return p.readDir(ctx, s, dir, from, fn)
}

func (p *Pool) readDir(ctx context.Context, s *state, dir, from uint64, fn func(ondisk.Dirent) bool) error {
	m := &dirMerge{next: max(from, ondisk.DirBit), fn: fn}
	tree := true
	for i, o := range s.layers() {
		if o == nil || !tree {
			continue
		}
		n := o.find(dir)
		m.layers[i].n = n
		tree = !o.isNew(dir) && !n.isDeleted()
	}
	if tree {
		err := p.onTree(ctx, s, func(ctx context.Context, v *chain.View) error {
			return v.Dirents(ctx, dir, m.next, math.MaxUint64, func(d ondisk.Dirent, _ *ondisk.Blockref) bool {
				return m.below(d)
			})
		})
		if err != nil && !errors.Is(err, chain.ErrNoInode) {
			return err
		}
	}
	m.rest()
	return nil
}

func (n *onode) isDeleted() bool {
	if n == nil {
		return false
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.deleted
}

// A dirMerge merges overlays over a tree.
type dirMerge struct {
	layers [maxLayers]dirLayer // top first
	next   uint64              // first key not passed on yet; 0 after the last
	fn     func(ondisk.Dirent) bool
	done   bool
}

// peek returns what the overlays say of the first key they know from next on.
func (m *dirMerge) peek() (first *dent) {
	for i := range m.layers {
		if e := m.layers[i].peek(m.next); e != nil && (first == nil || e.Key < first.Key) {
			first = e // of equal keys the upper one counts
		}
	}
	return first
}

// emit passes d on.
func (m *dirMerge) emit(d ondisk.Dirent, live bool) {
	m.next = d.Key + 1
	m.done = live && !m.fn(d) || m.next == 0
}

// below takes the next entry of the tree, and all that come before it.
func (m *dirMerge) below(d ondisk.Dirent) bool {
	for !m.done && m.next <= d.Key {
		e := m.peek()
		if e == nil || e.Key > d.Key {
			m.emit(d, true)
			break
		}
		m.emit(e.Dirent, e.state == dentLive)
	}
	return !m.done
}

// rest takes what comes after the last entry of the tree.
func (m *dirMerge) rest() {
	for !m.done {
		e := m.peek()
		if e == nil {
			return
		}
		m.emit(e.Dirent, e.state == dentLive)
	}
}

// Orphans returns a walk over the inodes that no name leads to as of now:
// those without links, and attributes whose owner is gone or is not what they
// say. The walk calls fn with their numbers until it returns false. It reads
// the whole index, and may do so while the pool is in use: what becomes an
// orphan later is not in it. It must be called once.
func (p *Pool) Orphans(ctx context.Context) (walk func(ctx context.Context, fn func(inum uint64) bool) error, err error) {
	if err := p.Settle(ctx); err != nil {
		return nil, err
	}
	s := p.acquire()
	return func(ctx context.Context, fn func(inum uint64) bool) error {
		defer s.release()
		return p.orphansOf(ctx, s, fn)
	}, nil
}

func (p *Pool) orphansOf(ctx context.Context, s *state, fn func(inum uint64) bool) error {
	var lost []uint64
	err := p.onTree(ctx, s, func(ctx context.Context, v *chain.View) error {
		lost = lost[:0]
		var bad error
		err := v.Inodes(ctx, ondisk.InumFirst, math.MaxUint64, func(rec *chain.InodeRec) bool {
			orphan := rec.Meta.Nlinks == 0
			if inum := rec.Meta.Inum; inum >= ondisk.AttrBit {
				owner := inum &^ ondisk.AttrBit
				var ok bool
				_, ok, bad = v.Inode(ctx, owner)
				orphan = !ok || rec.Meta.Iparent != owner
			}
			if bad == nil && orphan {
				lost = append(lost, rec.Meta.Inum)
			}
			return bad == nil
		})
		return errors.Join(err, bad)
	})
	if err != nil {
		return err
	}
	for _, inum := range lost {
		if !fn(inum) {
			break
		}
	}
	return nil
}
