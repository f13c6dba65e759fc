package fsck

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Options say how much is checked. The zero value reads everything that the
// newest header reaches.
type Options struct {
	AllSlots    bool           // also what the other header slots reach
	SkipData    bool           // leave out data blocks: quick, finds no rotten file
	Workers     int            // reads in parallel; 0 = by the number of processors
	MaxFindings int            // kept in the report, all are counted; 0 = 1000
	Progress    func(Progress) // called about five times a second, from one goroutine
}

// Progress is how far a check has come.
type Progress struct {
	Phase  string // "tree", "names", "freemap" or "old trees"
	PFS    string // label, if the phase has one
	Blocks uint64 // read so far
	Bytes  uint64
	Total  uint64 // bytes in use by the header's account: an upper bound
}

const defaultFindings = 1000

// A checker is one run of Check.
type checker struct {
	collector
	set    *media.Set
	opts   Options
	hdr    *ondisk.VolumeHeader
	reach  reachMap
	seen   seenSet
	slots  chan struct{} // tokens of extra goroutines
	pfss   []*pfsState   // found below the super-root
	lag    atomic.Uint64 // blocks newer than the freemap
	blocks atomic.Uint64 // read
	bytes  atomic.Uint64
	byType [8]atomic.Uint64
	phase  atomic.Pointer[Progress]
}

// Check reads the volume on devs, which are all of its devices in any order
// and stay open, and reports what is wrong with it. The error is that of ctx,
// or says that there is no volume to check.
func Check(ctx context.Context, devs []ondisk.Device, o Options) (*Report, error) {
	began := time.Now()
	set, err := media.Open(devs)
	if err != nil {
		return nil, fmt.Errorf("no usable volume header: %w", err)
	}
	if o.Workers <= 0 {
		o.Workers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	if o.MaxFindings <= 0 {
		o.MaxFindings = defaultFindings
	}
	rep := &Report{Device: set.Best.Device.Name(), Fsid: set.Header().Fsid}
	c := &checker{
		collector: collector{rep: rep, max: o.MaxFindings},
		set:       set, opts: o, hdr: set.Header(), slots: make(chan struct{}, o.Workers-1),
	}
	c.enter("tree", "")
	stop := c.watch()
	err = c.run(ctx)
	stop()
	if err != nil {
		return nil, err
	}
	c.finish()
	rep.Took = time.Since(began)
	return rep, nil
}

func (c *checker) run(ctx context.Context) error {
	c.headers()
	if err := c.tree(ctx, c.hdr, true); err != nil {
		return err
	}
	c.checkPFSList()
	for _, p := range c.pfss {
		c.enter("tree", p.label)
		if err := c.pfs(ctx, p); err != nil {
			return err
		}
	}
	c.checkLag()
	c.log()
	c.enter("freemap", "")
	if err := c.freemap(ctx, c.hdr, true); err != nil {
		return err
	}
	if !c.opts.AllSlots {
		return nil
	}
	c.enter("old trees", "")
	return c.oldTrees(ctx)
}

// pfs checks one PFS of the newest header.
func (c *checker) pfs(ctx context.Context, p *pfsState) error {
	first := c.findings()
	w := &walk{c: c, newest: true}
	if err := w.array(ctx, p.place(), &p.ref, p.refs, p.whole); err != nil {
		return err
	}
	c.enter("names", p.label)
	c.names(p)
	c.accounts(p)
	if err := c.paths(ctx, p, first); err != nil {
		return err
	}
	c.rep.PFSs = append(c.rep.PFSs, p.report())
	p.forget()
	return nil
}

// oldTrees checks what the other slots reach and the newest does not.
func (c *checker) oldTrees(ctx context.Context) error {
	for i := range c.set.Slots {
		s := &c.set.Slots[i]
		if s.Header == nil || s == c.set.Best || s.Header.Sroot == c.hdr.Sroot {
			continue
		}
		c.pfss = nil
		if err := c.tree(ctx, s.Header, false); err != nil {
			return err
		}
		for _, p := range c.pfss {
			p.label = fmt.Sprintf("%s (header slot %d)", p.label, s.Index)
			w := &walk{c: c}
			if err := w.array(ctx, p.place(), &p.ref, p.refs, p.whole); err != nil {
				return err
			}
		}
		if err := c.freemap(ctx, s.Header, false); err != nil {
			return err
		}
	}
	return nil
}

// findings is the number of findings kept so far.
func (c *checker) findings() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.rep.Findings)
}

func (c *checker) finish() {
	n := &c.rep.Counts
	for i := range n.Blocks {
		n.Blocks[i] = c.byType[i].Load()
	}
	n.Tables, n.Inodes = n.Blocks[ondisk.TypeIndirect], n.Blocks[ondisk.TypeInode]
	n.DataBlocks, n.Bytes = n.Blocks[ondisk.TypeData], c.bytes.Load()
	slices.SortStableFunc(c.rep.Findings, func(a, b Finding) int { return -cmp.Compare(a.Severity, b.Severity) })
}

// count notes a block that was read.
func (c *checker) count(r *ondisk.Blockref) {
	c.blocks.Add(1)
	c.bytes.Add(uint64(r.Size()))
	c.byType[r.Type&7].Add(1)
}

func (c *checker) enter(phase, pfs string) {
	c.phase.Store(&Progress{Phase: phase, PFS: pfs, Total: c.hdr.AllocatorSize - min(c.hdr.AllocatorSize, c.hdr.AllocatorFree)})
}

// watch calls Options.Progress until the returned function is called.
func (c *checker) watch() (stop func()) {
	if c.opts.Progress == nil {
		return func() {}
	}
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p := *c.phase.Load()
				p.Blocks, p.Bytes = c.blocks.Load(), c.bytes.Load()
				c.opts.Progress(p)
			case <-ended:
				return
			}
		}
	}()
	return func() { close(ended); <-done }
}
