package cluster

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

const testLabel = "TEST"

// fakeEngine applies batches to all of its volumes, without any protocol.
type fakeEngine struct {
	t    testing.TB
	vols []*chain.Volume

	mu      sync.Mutex
	seq     uint32
	epoch   uint32
	last    Position
	signal  chan struct{}
	commits int
	reports []error
	fail    error         // of the next commits
	slow    time.Duration // each commit takes longer
	noViews bool
	noQuota bool
	wrap    func(node int, v *chain.View) *chain.View
}

func (e *fakeEngine) nextT() ondisk.Tid {
	e.mu.Lock()
	defer e.mu.Unlock()
	return ondisk.MakeTid(e.epoch, e.seq+1)
}

func (e *fakeEngine) commit(ctx context.Context, b *chain.Batch) (logged bool, err error) {
	e.mu.Lock()
	fail, slow := e.fail, e.slow
	e.mu.Unlock()
	if fail != nil {
		return false, fail
	}
	if slow > 0 {
		<-time.After(slow) // a device that takes its time
	}
	if want := e.nextT(); b.T != want {
		e.t.Errorf("batch with tid %v, want %v", b.T, want)
	}
	for _, v := range e.vols {
		if err := applyTo(ctx, v, b); err != nil {
			if ctx.Err() == nil {
				e.t.Errorf("commit of %v: %v", b.T, err)
			}
			return false, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seq++
	e.commits++
	e.last = Position{T: b.T}
	close(e.signal)
	e.signal = make(chan struct{})
	return false, nil
}

func applyTo(ctx context.Context, v *chain.Volume, b *chain.Batch) error {
	t, err := v.Begin(ctx)
	if err != nil {
		return err
	}
	t.UseReserve()
	if err := t.Apply(ctx, testLabel, b); err != nil {
		t.Abort()
		return err
	}
	return t.Commit(ctx)
}

func (e *fakeEngine) views() (views []nodeView) {
	if e.noViews {
		return nil
	}
	for i, v := range e.vols {
		view, err := v.View(context.Background(), testLabel)
		if err != nil {
			e.t.Errorf("view: %v", err)
			continue
		}
		views = append(views, nodeView{Node: i, T: view.T(), View: view})
	}
	return views
}

func (e *fakeEngine) committed() Position {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

func (e *fakeEngine) hasQuorum() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.noQuota
}

func (e *fakeEngine) reportRead(_ int, _ time.Duration, err error, _ *chain.NodeError) {
	if err != nil {
		e.mu.Lock()
		e.reports = append(e.reports, err)
		e.mu.Unlock()
	}
}

func (e *fakeEngine) changing() bool { return false }

func (e *fakeEngine) stale() bool { return false }

func (e *fakeEngine) gone(int) bool { return false }

func (e *fakeEngine) coming(uint64) bool { return false }

func (e *fakeEngine) set(fn func()) {
	e.mu.Lock()
	fn()
	close(e.signal)
	e.signal = make(chan struct{})
	e.mu.Unlock()
}

func (e *fakeEngine) volumes() (out []nodeVolume) {
	for i, v := range e.vols {
		infos, err := v.PFSs(context.Background())
		if err != nil {
			e.t.Error(err)
		}
		for k := range infos {
			if infos[k].Label == testLabel {
				out = append(out, nodeVolume{Node: i, Name: v.Name(), Label: testLabel, Fsid: infos[k].Fsid, Vol: v, InSync: true, Limit: time.Minute})
			}
		}
	}
	return out
}

func (e *fakeEngine) space() chain.Space {
	if e.noViews { // nobody is there to ask
		return chain.Space{}
	}
	return e.vols[0].Space()
}

func (e *fakeEngine) removable() (all, enough uint64, ok bool) {
	s := e.space()
	return s.Free, s.Free, s.Total > 0
}

func (e *fakeEngine) nodes() (nodes []NodeReport) {
	for _, v := range e.vols {
		nodes = append(nodes, NodeReport{Name: v.Name(), State: NodeInSync, Role: ondisk.PFSMaster})
	}
	return nodes
}

func (e *fakeEngine) turnsSince(int) ([]Event, int) { return nil, 0 } // its nodes stay in sync

func (e *fakeEngine) changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.signal
}

func (e *fakeEngine) drainFrees(ctx context.Context) (err error) {
	for _, v := range e.vols {
		err = errors.Join(err, v.DrainFrees(ctx))
	}
	return err
}

func (e *fakeEngine) trim(ctx context.Context, o chain.TrimOptions) (most uint64, err error) {
	for _, v := range e.vols {
		n, terr := v.Trim(ctx, o)
		most, err = max(most, n), errors.Join(err, terr)
	}
	return most, err
}

func (e *fakeEngine) bulkfree(ctx context.Context, _ uint64, o chain.BulkfreeOptions) error {
	for _, v := range e.vols {
		if _, err := v.Bulkfree(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func (e *fakeEngine) add(context.Context, MemberSpec, ondisk.PFSType, bool) error {
	return errNotClustered
}
func (e *fakeEngine) remove(context.Context, string) error                       { return errNotClustered }
func (e *fakeEngine) setRole(context.Context, string, ondisk.PFSType) error      { return errNotClustered }
func (e *fakeEngine) clusterID() (id ondisk.UUID)                                { return id }
func (e *fakeEngine) noCopy(context.Context, []ondisk.Device, ondisk.UUID) error { return nil }
func (e *fakeEngine) scrubNodes() []ScrubNode                                    { return nil }
func (e *fakeEngine) pinAll() ([]Pinned, func())                                 { return nil, func() {} }
func (e *fakeEngine) repairNow(context.Context, Damage) error                    { return ErrNotRepaired }
func (e *fakeEngine) notThere(string) error                                      { return nil }
func (e *fakeEngine) overwrite(context.Context, string, string, chain.Change, func(*chain.View) (bool, error)) error {
	return ErrNotRepaired
}

func (e *fakeEngine) close(context.Context) (err error) {
	for _, v := range e.vols {
		err = errors.Join(err, v.Close())
	}
	return err
}

var errNotFaked = errors.New("not part of the double")

func (e *fakeEngine) offline(context.Context, string) error { return errNotFaked }
func (e *fakeEngine) online(context.Context, string) error  { return errNotFaked }
func (e *fakeEngine) replace(context.Context, string, MemberSpec, bool) error {
	return errNotFaked
}
func (e *fakeEngine) discard(context.Context, string) error { return errNotFaked }
func (e *fakeEngine) resyncWanted() []string                { return nil }
func (e *fakeEngine) acquireTarget(string) (*ResyncTarget, func(), error) {
	return nil, nil, errNotFaked
}
func (e *fakeEngine) pinSource(context.Context, string) (Source, func(), error) {
	return Source{}, nil, errNotFaked
}
func (e *fakeEngine) hold(context.Context, time.Duration, func(Position) error) error {
	return errNotFaked
}
func (e *fakeEngine) join(*ResyncTarget, Position) error       { return errNotFaked }
func (e *fakeEngine) retained(Position) ([]*chain.Batch, bool) { return nil, false }

// formatted returns a device with an empty PFS.
func formatted(t testing.TB, size int64) *memdev.Device {
	t.Helper()
	dev := memdev.New(size)
	_, err := chain.Format(context.Background(), []ondisk.Device{dev}, chain.FormatOptions{
		Labels: []chain.PFSSpec{{Label: testLabel, Comp: uint8(ondisk.CompLZ4)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

// openFake opens a pool over devices of equal content.
func openFake(t testing.TB, o Options, devs ...ondisk.Device) (*Pool, *fakeEngine) {
	t.Helper()
	ctx := context.Background()
	e := &fakeEngine{t: t, signal: make(chan struct{})}
	for _, d := range devs {
		v, err := chain.Open(ctx, []ondisk.Device{d}, chain.Options{})
		if err != nil {
			t.Fatal(err)
		}
		e.vols = append(e.vols, v)
	}
	view, err := e.vols[0].View(ctx, testLabel)
	if err != nil {
		t.Fatal(err)
	}
	e.epoch = view.T().Epoch() + 1
	e.last = Position{T: view.T()}
	view.Release()
	p, err := newPool(ctx, e, o)
	if err != nil {
		t.Fatal(err)
	}
	return p, e
}

// crash drops a pool without a commit.
func crash(p *Pool) {
	p.closing.Store(true)
	p.cancel()
	p.workers.Wait()
	p.encode.stop()
	p.state.Load().release()
}

func closePool(t testing.TB, p *Pool) {
	t.Helper()
	if err := p.Close(context.Background()); err != nil {
		t.Errorf("close: %v", err)
	}
}

// call runs fn in a transaction.
func call(t testing.TB, p *Pool, fn func(*Txn) error) {
	t.Helper()
	tx, err := p.Begin(context.Background(), Cost{Leaves: 4, Bytes: 128 << 10})
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	defer tx.End()
	if err := fn(tx); err != nil {
		t.Fatal(err)
	}
}

func fileMeta(inum, size uint64) *Inode {
	m := ondisk.NewInodeMeta(inum, ondisk.ObjFile)
	m.CompAlgo, m.CheckAlgo = uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64)
	m.Nlinks, m.Size, m.Iparent = 1, size, 1
	return &Inode{Meta: m}
}

// makeFile makes an empty file in dir.
func makeFile(t testing.TB, p *Pool, dir uint64, name string, typ ondisk.ObjType) (inum uint64) {
	t.Helper()
	call(t, p, func(tx *Txn) error {
		inum = tx.NewInum()
		in := fileMeta(inum, 0)
		in.Meta.Type = typ
		tx.PutInode(in)
		return tx.AddDirent(dir, name, inum, typ)
	})
	return inum
}

// write writes and sets the size as a filesystem does.
func write(t testing.TB, p *Pool, inum, off uint64, data []byte) {
	t.Helper()
	call(t, p, func(tx *Txn) error {
		in, ok, err := p.Inode(context.Background(), inum)
		if err != nil || !ok {
			t.Fatalf("inode %d: %v %v", inum, ok, err)
		}
		tx.PutInode(fileMeta(inum, max(in.Meta.Size, off+uint64(len(data)))))
		if in.Meta.DirectData() {
			if err := tx.WriteData(context.Background(), inum, 0, in.Inline[:in.Meta.Size]); err != nil {
				return err
			}
		}
		return tx.WriteData(context.Background(), inum, off, data)
	})
}

func mustSync(t testing.TB, p *Pool) {
	t.Helper()
	if err := p.Settle(context.Background()); err != nil {
		t.Fatalf("sync: %v", err)
	}
}
