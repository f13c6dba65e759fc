package cluster

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// leaveAll ends the fillers of a pool that nobody uses yet, so that incomplete
// blocks stay as they are until someone needs them or their group is closed.
func leaveAll(p *Pool) {
	p.fill.stop(bg)
	p.fill.quit, p.fill.jobs = make(chan struct{}), nil
}

// dataDev counts, and on wish holds or fails, reads of whole blocks.
type dataDev struct {
	*memdev.Device
	reads atomic.Int64
	mu    sync.Mutex
	hold  chan struct{}
	err   error
	flip  bool
}

func (d *dataDev) ReadAt(b []byte, off int64) (int, error) {
	n, err := d.Device.ReadAt(b, off)
	if len(b) < ondisk.LogicalBlock {
		return n, err
	}
	d.reads.Add(1)
	d.mu.Lock()
	hold, fail, flip := d.hold, d.err, d.flip
	d.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if fail != nil {
		return 0, fail
	}
	if flip {
		b[100] ^= 1
	}
	return n, err
}

func (d *dataDev) set(hold chan struct{}, err error, flip bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hold, d.err, d.flip = hold, err, flip
}

// stored returns a pool with a file of such data on media only, and none of it
// in caches.
func stored(t *testing.T, o Options, blocks int) (p *Pool, dev *dataDev, file uint64, data []byte) {
	t.Helper()
	dev = &dataDev{Device: formatted(t, 256<<20)}
	p, _ = openFake(t, o, dev)
	file = makeFile(t, p, 1, "f", ondisk.ObjFile)
	data = noise(1, blocks*ondisk.LogicalBlock)
	write(t, p, file, 0, data)
	closePool(t, p)
	dev.Reopen()
	p, _ = openFake(t, o, dev)
	return p, dev, file, data
}

// A write into a block that was not in memory waited for the whole of it.
func TestPartialWriteWaitsForNoRead(t *testing.T) {
	p, dev, file, data := stored(t, Options{}, 20)
	hold := make(chan struct{})
	dev.set(hold, nil, false)
	for i := range 20 {
		at := i*ondisk.LogicalBlock + 8192
		write(t, p, file, uint64(at), noise(uint64(i), 4096))
		copy(data[at:], noise(uint64(i), 4096))
	}
	part := make([]byte, 4000)
	if err := p.ReadData(bg, file, 8192+50, part); err != nil || !bytes.Equal(part, data[8192+50:][:4000]) {
		t.Errorf("what was just written reads wrong: %v", err)
	}
	close(hold)
	if got := readAll(t, p, file, len(data)); !bytes.Equal(got, data) {
		t.Error("wrong data in memory")
	}
	mustSync(t, p)
	if got := readAll(t, p, file, len(data)); !bytes.Equal(got, data) {
		t.Error("wrong data on media")
	}
	closePool(t, p)
}

// What is written over from start to end, a page at a time, need not be read.
func TestPartialNeedsNoReadIfOverwritten(t *testing.T) {
	p, dev, file, _ := stored(t, Options{Commit: time.Hour}, 8)
	before := dev.reads.Load()
	data := noise(3, 8*ondisk.LogicalBlock)
	for at := 0; at < len(data); at += 4096 {
		write(t, p, file, uint64(at), data[at:at+4096])
		p.state.Load().open.filling.Wait()
	}
	mustSync(t, p)
	if n := dev.reads.Load() - before; n != 0 {
		t.Errorf("%d blocks were read", n)
	}
	if got := readAll(t, p, file, len(data)); !bytes.Equal(got, data) {
		t.Error("wrong data")
	}
	closePool(t, p)
}

// Whoever goes on to another block leaves one that has to be read.
func TestPartialIsReadBehindTheWriter(t *testing.T) {
	p, dev, file, data := stored(t, Options{Commit: time.Hour}, 8)
	before := dev.reads.Load()
	write(t, p, file, 0, data[:4096])
	write(t, p, file, 3*ondisk.LogicalBlock, data[:4096])
	p.state.Load().open.filling.Wait()
	if n := dev.reads.Load() - before; n != 1 {
		t.Errorf("%d blocks were read behind the writer, want 1", n)
	}
	n := p.state.Load().open.find(file)
	if n.lacking(0) != 0 || n.lacking(3*ondisk.LogicalBlock) == 0 {
		t.Error("the wrong block was completed")
	}
	closePool(t, p)
}

// A page is written, cut, punched and written over while the rest of the block
// is not there.
func TestPartialEdits(t *testing.T) {
	for _, read := range []bool{true, false} {
		t.Run(fmt.Sprintf("read=%v", read), func(t *testing.T) { partialEdits(t, read) })
	}
}

func partialEdits(t *testing.T, read bool) {
	const block = ondisk.LogicalBlock
	p, _, file, data := stored(t, Options{Commit: time.Hour}, 3)
	leaveAll(p)
	do := func(at int, b []byte) {
		write(t, p, file, uint64(at), b)
		copy(data[at:], b)
	}
	same := func(what string) {
		t.Helper()
		for _, n := range []int{4096, len(data)} { // a part first, so that the rest stays open
			if got := readAll(t, p, file, n); !bytes.Equal(got, data[:n]) {
				t.Fatalf("%s: wrong data", what)
			}
		}
	}
	do(0, noise(2, 4096))
	do(10000, noise(3, 10000))
	do(5000, noise(4, 10000))
	do(2*block-100, noise(5, 200))
	call(t, p, func(tx *Txn) error { return tx.ZeroData(bg, file, 12000, 30000) })
	clear(data[12000:30000])
	call(t, p, func(tx *Txn) error { return tx.ZeroData(bg, file, block+60000, 2*block+1000) })
	clear(data[block+60000 : 2*block+1000])
	call(t, p, func(tx *Txn) error {
		tx.PutInode(fileMeta(file, 2*block+5000))
		return tx.TruncateData(bg, file, 3*block, 2*block+5000)
	})
	call(t, p, func(tx *Txn) error {
		tx.PutInode(fileMeta(file, 3*block))
		return tx.TruncateData(bg, file, 2*block+5000, 3*block)
	})
	clear(data[2*block+5000:])
	do(2*block+30000, noise(6, 4096))
	if read {
		same("after edits")
	}
	mustSync(t, p)
	same("on media")
	closePool(t, p)
}

// The group above writes to a block that is incomplete in the one below, which
// cannot be built yet.
func TestPartialOverPartial(t *testing.T) {
	p, dev, file, data := stored(t, Options{Commit: time.Hour}, 2)
	leaveAll(p)
	do := func(at int, b []byte) {
		write(t, p, file, uint64(at), b)
		copy(data[at:], b)
	}
	do(4096, noise(2, 4096))
	hold, synced := make(chan struct{}), make(chan error, 1)
	dev.set(hold, nil, false)
	go func() { synced <- p.Sync(bg) }()
	for p.state.Load().syncing == nil {
		<-time.After(time.Millisecond)
	}
	do(20000, noise(3, 4096))
	do(ondisk.LogicalBlock+50, noise(4, 4096))
	got, read := make([]byte, len(data)), make(chan error, 1)
	go func() { read <- p.ReadData(bg, file, 0, got) }()
	select {
	case err := <-read:
		t.Errorf("what no device gave was read: %v", err)
		read <- err
	case <-time.After(20 * time.Millisecond):
	}
	close(hold)
	if err := <-read; err != nil || !bytes.Equal(got, data) {
		t.Errorf("wrong data in memory: %v", err)
	}
	if err := <-synced; err != nil {
		t.Error(err)
	}
	mustSync(t, p)
	if got := readAll(t, p, file, len(data)); !bytes.Equal(got, data) {
		t.Error("wrong data on media")
	}
	closePool(t, p)
}

// A pool is closed while reads of incomplete blocks hang with the only device.
func TestPartialClosesWhileReadsHang(t *testing.T) {
	p, dev, file, data := stored(t, Options{Commit: time.Hour}, 20)
	hold := make(chan struct{})
	dev.set(hold, nil, false)
	for i := range 20 {
		write(t, p, file, uint64(i*ondisk.LogicalBlock+100), data[:100])
		copy(data[i*ondisk.LogicalBlock+100:], data[:100])
	}
	time.AfterFunc(50*time.Millisecond, func() { close(hold) })
	closePool(t, p)
	dev.Reopen()
	p, _ = openFake(t, Options{}, dev)
	if got := readAll(t, p, file, len(data)); !bytes.Equal(got, data) {
		t.Error("wrong data")
	}
	closePool(t, p)
}

// A member that hangs while blocks are completed is passed over.
func TestPartialPassesOverAHungMember(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	file := makeFile(t, p, ondisk.InumRoot, "f", ondisk.ObjFile)
	data := noise(1, 40*ondisk.LogicalBlock)
	write(t, p, file, 0, data)
	mustSync(t, p)
	untilEqual(t, p.engine.(*engine))
	check(t, p.Close(bg))

	p = c.pool(Options{}) // nothing is in its caches
	untilEqual(t, p.engine.(*engine))
	p.refresh()
	first := p.state.Load().views[0].Node
	c.fault[first].Add(faultdev.Rule{Do: faultdev.Hang, On: faultdev.Read, Times: faultdev.Always})
	held := time.AfterFunc(40*time.Second, func() {
		c.fault[first].Clear()
		c.fault[first].Release()
	})
	for i := range 40 {
		at := i*ondisk.LogicalBlock + 30000
		write(t, p, file, uint64(at), noise(uint64(i), 4096))
		copy(data[at:], noise(uint64(i), 4096))
	}
	check(t, p.Sync(bg))
	if got := readAll(t, p, file, len(data)); !bytes.Equal(got, data) {
		t.Error("wrong data")
	}
	if !held.Stop() {
		t.Error("the callers were held until it answered")
	}
	c.fault[first].Clear()
	c.fault[first].Release()
	check(t, p.Close(bg))
}

// Small writes all over a file, read back at random, with commits, whatever
// becomes of the blocks meanwhile.
func TestPartialModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { partialModel(t, seed) })
	}
}

func partialModel(t *testing.T, seed uint64) {
	const blocks = 12
	p, _, file, data := stored(t, Options{Commit: time.Duration(1+seed*7) * time.Millisecond}, blocks)
	if seed%3 == 2 {
		leaveAll(p)
	}
	rng := rand.New(rand.NewPCG(seed, 3))
	size := len(data)
	for i := range 600 {
		at := rng.IntN(size)
		n := min(1+rng.IntN(1<<rng.IntN(16)), size-at)
		switch op := rng.IntN(20); {
		case op < 12:
			b := noise(uint64(i), n)
			write(t, p, file, uint64(at), b)
			copy(data[at:], b)
		case op < 17:
			got := make([]byte, n)
			if err := p.ReadData(bg, file, uint64(at), got); err != nil || !bytes.Equal(got, data[at:at+n]) {
				t.Fatalf("step %d: %d bytes at %#x: wrong data, %v", i, n, at, err)
			}
		case op < 18:
			call(t, p, func(tx *Txn) error { return tx.ZeroData(bg, file, uint64(at), uint64(at+n)) })
			clear(data[at : at+n])
		case op < 19:
			for _, to := range []int{at, size} {
				call(t, p, func(tx *Txn) error {
					in, _, err := p.Inode(bg, file)
					if err != nil {
						return err
					}
					tx.PutInode(fileMeta(file, uint64(to)))
					return tx.TruncateData(bg, file, in.Meta.Size, uint64(to))
				})
			}
			clear(data[at:])
		default:
			mustSync(t, p)
		}
	}
	if got := readAll(t, p, file, size); !bytes.Equal(got, data) {
		t.Error("wrong data in memory")
	}
	mustSync(t, p)
	if got := readAll(t, p, file, size); !bytes.Equal(got, data) {
		t.Error("wrong data on media")
	}
	closePool(t, p)
}
