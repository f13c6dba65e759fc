package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/chain"
)

const (
	hedgeLeast   = 50 * time.Millisecond // never give up on a node sooner
	hedgeFactor  = 3                     // times the median
	hedgeSamples = 64
	hedgeNodes   = 64 // nodes that are watched
	maxPatience  = 10 // times that it doubles
)

// A hedge knows what a normal read takes, and which nodes have one out for
// longer.
type hedge struct {
	limit atomic.Int64 // ns after which the next node is asked as well; 0 = hedgeLeast

	mu      sync.Mutex
	samples [hedgeSamples]time.Duration
	count   int

	out [hedgeNodes]atomic.Int32 // reads out beyond the limit, by node
}

// threshold is how long the first node is waited for.
func (h *hedge) threshold() time.Duration {
	return max(hedgeLeast, time.Duration(h.limit.Load()))
}

// note learns the time of a read that was the first to answer: the others would make
// what is slow normal, and nobody but the slow node would be asked any more.
func (h *hedge) note(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.samples[h.count%hedgeSamples] = d
	h.count++
	if h.count%(hedgeSamples/4) == 0 {
		known := slices.Clone(h.samples[:min(h.count, hedgeSamples)])
		slices.Sort(known)
		h.limit.Store(int64(hedgeFactor * known[len(known)/2]))
	}
}

// late is what chain.Patient wants to know of a node: while a read of it is
// late, others are asked first.
func (h *hedge) late(node int) func() func() {
	return func() func() {
		h.slot(node).Add(1)
		return func() { h.slot(node).Add(-1) }
	}
}

func (h *hedge) slot(node int) *atomic.Int32 { return &h.out[uint(node)%hedgeNodes] }

// order sorts views for one call: those with a late read come last, so that
// one hung node does not catch call after call.
func (h *hedge) order(views []nodeView) []nodeView {
	late := false
	for i := range views {
		late = late || h.slot(views[i].Node).Load() > 0
	}
	if !late || len(views) < 2 {
		return views
	}
	sorted := slices.Clone(views)
	slices.SortStableFunc(sorted, func(a, b nodeView) int {
		return int(min(h.slot(a.Node).Load(), 1) - min(h.slot(b.Node).Load(), 1))
	})
	return sorted
}

// A treeRead is one node's answer.
type treeRead struct {
	view *nodeView
	buf  []byte
	took time.Duration
	err  error
}

// readTree reads data below the overlays. With several views the next one is
// asked when the first takes too long, and the first answer counts. Inodes
// that are not there read as zeros.
func (p *Pool) readTree(ctx context.Context, s *state, inum, off uint64, dst []byte) error {
	b, err := p.lendTree(ctx, s, inum, off, len(dst))
	if err == nil {
		copy(dst, b)
		putLarge(b)
	}
	return err
}

// lendTree is readTree into a buffer of ours, for putLarge.
func (p *Pool) lendTree(ctx context.Context, s *state, inum, off uint64, n int) ([]byte, error) {
	b, err := p.lendTreeOnce(ctx, s, inum, off, n)
	if passes(err) {
		b, err = p.lendTreeOnce(ctx, s, inum, off, n)
	}
	return b, err
}

func (p *Pool) lendTreeOnce(ctx context.Context, s *state, inum, off uint64, n int) ([]byte, error) {
	if len(s.views) < 2 {
		dst := getLarge(n)
		err := p.onTree(ctx, s, func(ctx context.Context, v *chain.View) error {
			return zeroIfAbsent(v.ReadData(ctx, inum, off, dst), dst)
		})
		return dst, err
	}
	changed, began := *p.viewsCh.Load(), time.Now()
	gone := true
	// A node that hangs keeps its buffer.
	views := p.hedge.order(s.views)
	answers := make(chan treeRead, len(views))
	asked, open := 0, 0
	ask := func() {
		v := &views[asked]
		asked++
		open++
		s.refs.Add(1)
		go p.readFrom(ctx, s, v, inum, off, n, answers)
	}
	ask()
	timer := time.NewTimer(p.hedge.threshold())
	defer timer.Stop()
	for {
		select {
		case a := <-answers:
			open--
			if a.err == nil {
				p.hedge.note(a.took)
				return a.buf, nil
			}
			putLarge(a.buf)
			if !p.readFailed(ctx, a.view, a.err) {
				return nil, a.err
			}
			gone = gone && p.gone(a.view, a.err)
			switch {
			case asked < len(views):
				ask()
			case open > 0:
			case !gone && p.awaitLate(ctx, began, views):
				return p.lendAnew(ctx, inum, off, n)
			case !gone || p.opts.OnNoQuorum == EIO:
				return nil, a.err
			default:
				return p.lendLater(ctx, s, changed, inum, off, n)
			}
		case <-timer.C:
			if asked < len(views) {
				ask()
				timer.Reset(p.hedge.threshold())
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// lendLater reads when other nodes are there than those that are gone.
func (p *Pool) lendLater(ctx context.Context, old *state, changed <-chan struct{}, inum, off uint64, n int) ([]byte, error) {
	if err := p.awaitOther(ctx, old, changed); err != nil {
		return nil, err
	}
	return p.lendAnew(ctx, inum, off, n)
}

// lendAnew reads from the nodes that are there now.
func (p *Pool) lendAnew(ctx context.Context, inum, off uint64, n int) ([]byte, error) {
	s := p.acquire()
	defer s.release()
	return p.lendTree(ctx, s, inum, off, n)
}

// readFrom reads from one view, and gives back the reference to s.
func (p *Pool) readFrom(ctx context.Context, s *state, v *nodeView, inum, off uint64, n int, to chan<- treeRead) {
	defer s.release()
	buf := getLarge(n)
	start := time.Now()
	late := time.AfterFunc(p.hedge.threshold(), func() { p.hedge.slot(v.Node).Add(1) })
	err := zeroIfAbsent(v.View.ReadData(ctx, inum, off, buf), buf)
	took := time.Since(start)
	if !late.Stop() {
		p.hedge.slot(v.Node).Add(-1)
	}
	if err == nil {
		p.engine.reportRead(v.Node, took, nil, nil)
	}
	to <- treeRead{v, buf, took, err}
}

// zeroIfAbsent lets an inode that is not in the tree read as zeros.
func zeroIfAbsent(err error, dst []byte) error {
	if errors.Is(err, chain.ErrNoInode) {
		clear(dst)
		return nil
	}
	return err
}
