package cluster

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A model is what a pool should hold: names of the root directory and the
// content of files.
type model struct {
	names map[string]uint64
	files map[uint64][]byte
}

func (m *model) clone() *model {
	c := &model{maps.Clone(m.names), make(map[uint64][]byte)}
	for k, v := range m.files {
		c.files[k] = slices.Clone(v)
	}
	return c
}

const modelMax = 5 * ondisk.LogicalBlock / 2

// modelNames has pairs with one hash.
func modelNames() (names []string) {
	for i := range 40 {
		names = append(names, fmt.Sprintf("n%d", i))
	}
	for i := range 8 {
		names = append(names, fmt.Sprintf("%d-a.b", i), fmt.Sprintf("%d.a-b~", i), fmt.Sprint(bytes.Repeat([]byte("long"), 5+i)))
	}
	return append(names, "cb.ce.cf.cg.cc.ca.cd.ch", "ca.cb.cd.ce.cg.cf.ch.cc")
}

// A modelRun changes a pool and its model alike.
type modelRun struct {
	t      *testing.T
	p      *Pool
	m      *model
	rng    *rand.Rand
	names  []string
	shared int
	mu     sync.RWMutex // stands for the inode locks of a filesystem
}

func (r *modelRun) name(present bool) (string, bool) {
	for range 50 {
		n := r.names[r.rng.IntN(len(r.names))]
		if _, ok := r.m.names[n]; ok == present {
			return n, true
		}
	}
	return "", false
}

// step makes one call.
func (r *modelRun) step() {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch op := r.rng.IntN(13); {
	case op < 2:
		if n, ok := r.name(false); ok {
			r.m.names[n] = makeFile(r.t, r.p, 1, n, ondisk.ObjFile)
			r.m.files[r.m.names[n]] = nil
		}
	case op < 3:
		r.unlink()
	case op < 4:
		r.rename()
	case op < 7:
		if n, ok := r.name(true); ok {
			r.write(r.m.names[n])
		}
	case op < 8:
		if n, ok := r.name(true); ok {
			r.truncate(r.m.names[n])
		}
	case op < 9:
		if n, ok := r.name(true); ok {
			r.punch(r.m.names[n])
		}
	case op < 12:
		r.share()
	default:
		if n, ok := r.name(true); ok {
			r.inline(r.m.names[n])
		}
	}
}

func (r *modelRun) unlink() {
	n, ok := r.name(true)
	if !ok {
		return
	}
	inum := r.m.names[n]
	call(r.t, r.p, func(tx *Txn) error { tx.DeleteInode(inum); return tx.RemoveDirent(1, n) })
	delete(r.m.names, n)
	delete(r.m.files, inum)
}

// rename moves a name onto another, free or not, in one call.
func (r *modelRun) rename() {
	from, ok1 := r.name(true)
	to, ok2 := r.name(r.rng.IntN(2) == 0)
	if !ok1 || !ok2 || from == to {
		return
	}
	inum := r.m.names[from]
	old, replaced := r.m.names[to]
	call(r.t, r.p, func(tx *Txn) error {
		if err := tx.RemoveDirent(1, from); err != nil {
			return err
		}
		if replaced {
			tx.DeleteInode(old)
			return tx.ReplaceDirent(1, to, inum, ondisk.ObjFile)
		}
		return tx.AddDirent(1, to, inum, ondisk.ObjFile)
	})
	delete(r.m.names, from)
	delete(r.m.files, old)
	r.m.names[to] = inum
}

func (r *modelRun) write(inum uint64) {
	old := r.m.files[inum]
	off := r.rng.IntN(modelMax)
	if r.rng.IntN(2) == 0 {
		off = len(old)
	}
	n := 1 + r.rng.IntN(1<<r.rng.IntN(17))
	if off+n > modelMax {
		return
	}
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(r.rng.IntN(4)) // some of it compresses
	}
	write(r.t, r.p, inum, uint64(off), data)
	if off+n > len(old) {
		old = append(old, make([]byte, off+n-len(old))...)
	}
	copy(old[off:], data)
	r.m.files[inum] = old
}

func (r *modelRun) truncate(inum uint64) {
	old := r.m.files[inum]
	size := r.rng.IntN(modelMax)
	call(r.t, r.p, func(tx *Txn) error {
		if err := r.plain(tx, inum, uint64(size)); err != nil {
			return err
		}
		return tx.TruncateData(bg, inum, uint64(len(old)), uint64(size))
	})
	if size <= len(old) {
		r.m.files[inum] = old[:size:size]
	} else {
		r.m.files[inum] = append(old, make([]byte, size-len(old))...)
	}
}

func (r *modelRun) punch(inum uint64) {
	old := r.m.files[inum]
	if len(old) == 0 {
		return
	}
	from := r.rng.IntN(len(old))
	to := from + 1 + r.rng.IntN(len(old)-from)
	call(r.t, r.p, func(tx *Txn) error {
		if err := r.plain(tx, inum, uint64(len(old))); err != nil {
			return err
		}
		return tx.ZeroData(bg, inum, uint64(from), uint64(to))
	})
	clear(old[from:to])
}

// share gives a file whole blocks of another, or of itself, the last one of the
// source included if the target ends there, as a filesystem does.
func (r *modelRun) share() {
	a, ok1 := r.name(true)
	b, ok2 := r.name(true)
	if !ok1 || !ok2 {
		return
	}
	src, dst := r.m.names[a], r.m.names[b]
	from, old := r.m.files[src], r.m.files[dst]
	in, _, err := r.p.Inode(bg, src)
	if err != nil || in.Meta.DirectData() || len(from) == 0 {
		return
	}
	at := r.rng.IntN(1+(len(from)-1)/ondisk.LogicalBlock) * ondisk.LogicalBlock
	to := r.rng.IntN(2) * ondisk.LogicalBlock
	n := min(len(from)-at, (1+r.rng.IntN(2))*ondisk.LogicalBlock)
	if n%ondisk.LogicalBlock != 0 && to+n < len(old) {
		n -= n % ondisk.LogicalBlock
	}
	if n == 0 || src == dst && at < to+n && to < at+n {
		return
	}
	if r.rng.IntN(3) == 0 {
		if err := r.p.SettleData(bg, src, uint64(at), uint64(at+n)); err != nil {
			r.t.Fatal(err)
		}
	}
	call(r.t, r.p, func(tx *Txn) error {
		if err := r.plain(tx, dst, uint64(max(len(old), to+n))); err != nil {
			return err
		}
		if to > len(old) {
			if err := tx.TruncateData(bg, dst, uint64(len(old)), uint64(to)); err != nil {
				return err
			}
		}
		done, err := tx.ShareData(bg, src, uint64(at), dst, uint64(to), uint64(n))
		if err == nil && int(done) != n {
			err = fmt.Errorf("%d of %d bytes shared", done, n)
		}
		return err
	})
	old = append(old, make([]byte, max(0, to+n-len(old)))...)
	copy(old[to:], from[at:at+n])
	r.m.files[dst] = old
	r.shared++
}

// plain sets a record without inline content, which becomes data.
func (r *modelRun) plain(tx *Txn, inum, size uint64) error {
	in, _, err := r.p.Inode(bg, inum)
	if err != nil {
		return err
	}
	tx.PutInode(fileMeta(inum, size))
	if in.Meta.DirectData() {
		return tx.WriteData(bg, inum, 0, in.Inline[:in.Meta.Size])
	}
	return nil
}

// inline gives a file short content that needs no block.
func (r *modelRun) inline(inum uint64) {
	content := bytes.Repeat([]byte{byte(r.rng.IntN(255) + 1)}, 1+r.rng.IntN(ondisk.InlineMax))
	call(r.t, r.p, func(tx *Txn) error {
		in := fileMeta(inum, uint64(len(content)))
		in.Meta.OpFlags |= ondisk.OpDirectData
		in.Inline = content
		tx.PutInode(in)
		return nil
	})
	r.m.files[inum] = slices.Clone(content)
}

// compare tells the first difference between pool and model, nil if none.
func compare(p *Pool, m *model) error {
	got := make(map[string]uint64)
	err := p.ReadDir(bg, 1, 0, func(d ondisk.Dirent) bool {
		got[d.Name] = d.Inum
		return true
	})
	if err != nil {
		return err
	}
	if !maps.Equal(got, m.names) {
		return fmt.Errorf("names differ: %v, want %v", got, m.names)
	}
	for name, inum := range m.names {
		d, ok, err := p.Lookup(bg, 1, name)
		if err != nil || !ok || d.Inum != inum {
			return fmt.Errorf("lookup of %s: %v %v %v", name, d, ok, err)
		}
		if err := compareFile(p, inum, m.files[inum]); err != nil {
			return err
		}
	}
	return nil
}

func compareFile(p *Pool, inum uint64, want []byte) error {
	in, ok, err := p.Inode(bg, inum)
	if err != nil || !ok || in.Meta.Size != uint64(len(want)) {
		return fmt.Errorf("inode %d: %v %v, want size %d", inum, ok, err, len(want))
	}
	buf := bytes.Repeat([]byte{0xEE}, len(want)+100)
	if err := p.ReadData(bg, inum, 0, buf); err != nil {
		return err
	}
	want = append(slices.Clone(want), make([]byte, 100)...)
	for i := range buf {
		if buf[i] != want[i] {
			return fmt.Errorf("inode %d, byte %#x: %#x, want %#x (size %#x)", inum, i, buf[i], want[i], len(want)-100)
		}
	}
	at, any, err := p.SeekData(bg, inum, 0, uint64(len(want)-100))
	if err != nil {
		return err
	}
	if !any {
		at = uint64(len(want))
	}
	if i := bytes.IndexFunc(want[:min(at, uint64(len(want)))], func(c rune) bool { return c != 0 }); i >= 0 {
		return fmt.Errorf("inode %d: byte %#x is data, found only at %#x", inum, i, at)
	}
	return nil
}

// read compares while changes go on; the lock stands for a filesystem's.
func (r *modelRun) read(stop chan struct{}) {
	rng := rand.New(rand.NewPCG(9, 9))
	for {
		select {
		case <-stop:
			return
		default:
		}
		r.mu.RLock()
		if rng.IntN(20) == 0 {
			if err := compare(r.p, r.m); err != nil {
				r.t.Error(err)
			}
		}
		for name, inum := range r.m.names {
			if d, ok, err := r.p.Lookup(bg, 1, name); err != nil || !ok || d.Inum != inum {
				r.t.Errorf("lookup of %s: %v %v %v, want %d", name, d, ok, err, inum)
			}
			if err := compareFile(r.p, inum, r.m.files[inum]); err != nil {
				r.t.Error(err)
			}
			break
		}
		r.mu.RUnlock()
		if r.t.Failed() {
			return
		}
	}
}

// Random calls with random syncs and concurrent readers; then a crash, after
// which the pool is as some call left it, and no call before the last sync.
func TestPoolModel(t *testing.T) {
	rounds, steps := 6, 200
	if testing.Short() {
		rounds = 1
	}
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { testModel(t, uint64(seed), steps) })
	}
}

func testModel(t *testing.T, seed uint64, steps int) {
	dev := formatted(t, 512<<20)
	rng := rand.New(rand.NewPCG(seed, 1))
	m := &model{map[string]uint64{}, map[uint64][]byte{}}
	for life := range 3 {
		p, _ := openFake(t, Options{Commit: time.Duration(1+rng.IntN(20)) * time.Millisecond, Dedup: seed%2 == 1}, dev)
		if err := compare(p, m); err != nil {
			t.Fatalf("life %d: %v", life, err)
		}
		t.Cleanup(func() {
			if t.Failed() {
				p.cancel()
				p.workers.Wait()
			}
		})
		r := &modelRun{t: t, p: p, m: m, rng: rng, names: modelNames()}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { r.read(stop) })
		durable := []*model{m.clone()} // the last synced state and those after it
		for i := 0; i < steps && !t.Failed(); i++ {
			r.step()
			if i >= steps-20 {
				durable = append(durable, r.m.clone())
			}
			if rng.IntN(25) == 0 || i == steps-20 {
				mustSync(t, p)
				durable = append(durable[:0], r.m.clone())
			}
			if rng.IntN(40) == 0 {
				runtime.Gosched()
			}
		}
		close(stop)
		wg.Wait()
		if r.shared == 0 {
			t.Errorf("life %d: nothing was shared", life)
		}
		if t.Failed() {
			return
		}
		if err := compare(p, r.m); err != nil {
			t.Fatalf("life %d: %v", life, err)
		}
		crash(p)
		m = recovered(t, dev, durable)
	}
}

// recovered returns the state that the pool has after a crash, which must be
// one of those allowed.
func recovered(t *testing.T, dev ondisk.Device, allowed []*model) *model {
	p, _ := openFake(t, Options{}, dev)
	defer crash(p)
	var errs []error
	for _, m := range allowed {
		err := compare(p, m)
		if err == nil {
			return m.clone()
		}
		errs = append(errs, err)
	}
	t.Fatalf("none of %d states that a crash may leave: %v", len(allowed), errs)
	return nil
}
