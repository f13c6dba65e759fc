package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// A quotaRig is a filesystem without a kernel, on a pool of one.
type quotaRig struct {
	t    testing.TB
	ctx  context.Context
	disk *memdev.Device
	pool *cluster.Pool
	f    *FS

	// Files that had several names: one that has them in several trees from
	// before there were accounts is charged to one of those.
	linked []uint64
}

func newQuotaRig(t testing.TB) *quotaRig {
	r := formatQuotaRig(t, chain.PFSSpec{Label: testLabel})
	v, err := chain.Open(r.ctx, []ondisk.Device{r.disk}, chain.Options{})
	r.must(err)
	r.must(cluster.Found(r.ctx, []*chain.Volume{v}, testLabel, []ondisk.PFSType{ondisk.PFSMaster}))
	r.must(v.Close())
	r.open()
	t.Cleanup(r.close)
	return r
}

func formatQuotaRig(t testing.TB, spec chain.PFSSpec) *quotaRig {
	r := &quotaRig{t: t, ctx: context.Background(), disk: memdev.New(256 << 20).Named("m0")}
	_, err := chain.Format(r.ctx, []ondisk.Device{r.disk}, chain.FormatOptions{Labels: []chain.PFSSpec{spec}})
	r.must(err)
	return r
}

// newLoneRig is a filesystem that is no cluster, as newfs makes of one device.
func newLoneRig(t testing.TB) *quotaRig {
	r := formatQuotaRig(t, chain.PFSSpec{Label: testLabel, Plain: true})
	r.open()
	t.Cleanup(r.close)
	return r
}

func (r *quotaRig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *quotaRig) open() {
	r.t.Helper()
	spec := cluster.MemberSpec{Name: "m0", Open: func(context.Context) ([]ondisk.Device, error) {
		r.disk.Reopen()
		return []ondisk.Device{r.disk}, nil
	}}
	quiet := slog.New(slog.DiscardHandler)
	var err error
	r.pool, err = cluster.OpenPool(r.ctx, []cluster.MemberSpec{spec}, cluster.Options{Label: testLabel, Logger: quiet, Commit: time.Hour})
	r.must(err)
	r.f, err = New(r.ctx, OnPool(r.pool), false, Options{Logger: quiet})
	r.must(err)
	<-r.f.collected
}

func (r *quotaRig) close() {
	if r.f != nil {
		r.must(errors.Join(r.f.Close(r.ctx), r.pool.Close(r.ctx)))
		r.f = nil
	}
}

// crash loses what no sync made durable.
func (r *quotaRig) crash() {
	r.f.Shutdown()
	_ = errors.Join(r.f.Close(r.ctx), r.pool.Close(r.ctx)) // what is lost is an error
	r.open()
}

func (r *quotaRig) mkdir(dir uint64, name string) uint64 {
	r.t.Helper()
	return r.make(dir, name, ondisk.ObjDir)
}

func (r *quotaRig) make(dir uint64, name string, typ ondisk.ObjType) uint64 {
	r.t.Helper()
	rec, err := r.f.Create(r.ctx, dir, name, NewNode{Type: typ, Mode: 0o755})
	r.must(err)
	r.f.Forget(rec.Meta.Inum, 1)
	return rec.Meta.Inum
}

func (r *quotaRig) write(inum, off uint64, p []byte) {
	r.t.Helper()
	_, err := r.f.Write(r.ctx, inum, off, p, false)
	r.must(err)
}

func (r *quotaRig) quota(dir uint64, limit Limits) {
	r.t.Helper()
	r.must(r.f.SetQuota(r.ctx, dir, func(l *Limits) { *l = limit }))
	r.must(r.f.WaitQuota(r.ctx, dir))
}

func noise(n int, seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
	return p
}

// recount finds by names alone what the tree below dir takes. What has no name
// is found by the account it is charged to.
func (r *quotaRig) recount(dir uint64, unnamed []uint64) (bytes, inodes uint64) {
	r.t.Helper()
	seen := map[uint64]bool{}
	var walk func(uint64)
	count := func(inum uint64) *Record {
		rec, ok, err := r.pool.Inode(r.ctx, inum)
		if err != nil || !ok || seen[inum] {
			r.must(err)
			return nil
		}
		seen[inum] = true
		inodes++
		switch {
		case rec.Meta.DirectData():
			bytes += rec.Meta.InlineCharge()
		case rec.Meta.Type != ondisk.ObjDir:
			if n, err := r.pool.Blocks(r.ctx, inum); err != nil || rec.Meta.Account != 0 && n != rec.Meta.Charge {
				r.t.Fatalf("inode %d takes %d bytes, and is charged %d: %v", inum, n, rec.Meta.Charge, err)
			}
			n, err := r.pool.DataBytes(r.ctx, inum, 0, 1<<63)
			r.must(err)
			bytes += n
		}
		return rec
	}
	for _, inum := range r.linked {
		rec, ok, err := r.pool.Inode(r.ctx, inum)
		if err == nil && ok && rec.Meta.Type == ondisk.ObjDir {
			continue // a crash lost the file, and its number was used again
		}
		if err == nil && ok && rec.Meta.Nlinks > 0 && r.charged(&rec.Meta, dir) {
			count(inum)
		}
		seen[inum] = true
	}
	walk = func(at uint64) {
		if count(at) == nil {
			return
		}
		var below []ondisk.Dirent
		r.must(r.pool.ReadDir(r.ctx, at, 0, func(d ondisk.Dirent) bool {
			below = append(below, d)
			return true
		}))
		for _, d := range below {
			if d.Type == ondisk.ObjDir {
				walk(d.Inum)
			} else {
				count(d.Inum)
			}
		}
	}
	walk(dir)
	for _, inum := range slices.Compact(slices.Sorted(slices.Values(unnamed))) {
		rec, ok, err := r.pool.Inode(r.ctx, inum)
		r.must(err)
		if ok && rec.Meta.Nlinks == 0 && r.charged(&rec.Meta, dir) {
			delete(seen, inum) // it had several names
			count(inum)
		}
	}
	return bytes, inodes
}

func (r *quotaRig) charged(m *ondisk.InodeMeta, dir uint64) bool {
	chain := r.f.quotas.chain(m.ChargedTo())
	return len(chain) > 0 && chain[0].gen == m.AccountGen && slices.ContainsFunc(chain, func(a *account) bool { return a.inum == dir })
}

// check demands that all sums are those of a recount.
func (r *quotaRig) check(what string, unnamed []uint64) {
	r.t.Helper()
	for _, inum := range r.f.quotas.roots() {
		r.must(r.f.WaitQuota(r.ctx, inum))
	}
	r.f.reaper.settle(r.ctx)
	r.must(r.pool.Sync(r.ctx))
	list, err := r.f.Quotas(r.ctx)
	r.must(err)
	for _, q := range list {
		bytes, inodes := r.recount(q.Inum, unnamed)
		if q.Bytes != bytes || q.Inodes != inodes || q.Counting || q.MoreBytes+q.MoreInodes != 0 {
			r.t.Fatalf("%s: the account of %s has %+v, there are %d bytes and %d inodes", what, r.pool.PathOf(r.ctx, q.Inum), q, bytes, inodes)
		}
	}
}

func (r *quotaRig) fsck() {
	r.t.Helper()
	r.disk.Reopen()
	rep, err := fsck.Check(r.ctx, []ondisk.Device{r.disk}, fsck.Options{})
	r.must(err)
	for _, f := range rep.Findings {
		if f.Severity > fsck.Info {
			r.t.Fatalf("fsck: %v", f)
		}
	}
}

// The sums are those of the last commit, so a count that has ended since is not
// in them: they are not told as exact.
func TestQuotaCountedNotCommitted(t *testing.T) {
	r := newQuotaRig(t)
	d := r.mkdir(ondisk.InumRoot, "d")
	r.write(r.make(d, "a", ondisk.ObjFile), 0, noise(1<<16, 1))
	r.must(r.pool.Sync(r.ctx))
	r.quota(d, Limits{})
	q, ok, err := r.f.QuotaOf(r.ctx, d)
	r.must(err)
	if !ok || !q.Counting {
		t.Fatalf("counted, not committed: %+v", q)
	}
	r.check("committed", nil)
}

// What is in the intent log only when the first account begins is charged as what
// is in the trees: it is not there for the settlement unless it is committed before.
func TestQuotaOverLog(t *testing.T) {
	r := newQuotaRig(t)
	d := r.mkdir(ondisk.InumRoot, "d")
	a := r.make(d, "a", ondisk.ObjFile)
	r.write(a, 0, noise(3<<16, 1))
	r.must(r.pool.Settle(r.ctx))
	r.write(a, 0, noise(1<<16, 2))
	b := r.make(d, "b", ondisk.ObjFile)
	r.write(b, 0, noise(2<<16, 3))
	r.must(r.f.Unlink(r.ctx, d, "a"))
	r.must(r.pool.Sync(r.ctx))
	if logged := r.pool.Status().Dirty.Logged; logged == 0 {
		t.Fatal("nothing is in the log only")
	}
	r.quota(d, Limits{})
	r.write(b, 1<<16, noise(1<<16, 4))
	r.check("begun over a log", nil)
	r.close()
	r.fsck()
}

func TestQuotaEnforced(t *testing.T) {
	r := newQuotaRig(t)
	d := r.mkdir(ondisk.InumRoot, "d")
	r.quota(d, Limits{Bytes: 1 << 20, Inodes: 10})
	a := r.make(d, "a", ondisk.ObjFile)
	written := 0
	var err error
	for ; err == nil && written < 100; written++ {
		_, err = r.f.Write(r.ctx, a, uint64(written)<<16, noise(1<<16, uint64(written)), false)
	}
	if err != syscall.EDQUOT || written != 17 {
		t.Fatalf("write %d of 64 KiB: %v", written, err)
	}
	// What takes no more space goes on: over, behind a hole, inline no more.
	r.write(a, 5, noise(70000, 99))
	r.check("full", nil)
	if _, err := r.f.Write(r.ctx, a, 17<<16, []byte("x"), false); err != syscall.EDQUOT {
		t.Fatalf("a block too much: %v", err)
	}
	b := r.make(d, "b", ondisk.ObjFile) // an inode, no bytes
	if _, err := r.f.Write(r.ctx, b, 0, []byte("x"), false); err != syscall.EDQUOT {
		t.Fatalf("inline content: %v", err)
	}
	for i := 0; i < 7; i++ {
		r.make(d, fmt.Sprint("n", i), ondisk.ObjFIFO)
	}
	if _, err := r.f.Create(r.ctx, d, "z", NewNode{Type: ondisk.ObjDir}); err != syscall.EDQUOT {
		t.Fatalf("inode 11: %v", err)
	}
	r.must(r.f.Unlink(r.ctx, d, "a"))
	r.write(b, 0, noise(1<<20, 7))
	r.make(d, "z", ondisk.ObjDir)
	r.check("after unlink", nil)
	if free := r.f.statFS(r.ctx, b); free.Total != 1<<20 || free.Avail != 0 || free.Files != 10 {
		t.Fatalf("statfs: %+v", free)
	}
	r.quota(d, Limits{Bytes: 100}) // below what is used
	r.must(r.f.Rename(r.ctx, d, "b", d, "c", 0))
	r.write(b, 0, noise(1<<20, 8))
	r.close()
	r.fsck()
}

// TestQuotaCompresses: space that compression saves can be used, though it is
// known at the commit only.
func TestQuotaCompresses(t *testing.T) {
	r := newQuotaRig(t)
	d := r.mkdir(ondisk.InumRoot, "d")
	r.quota(d, Limits{Bytes: 1 << 20})
	a := r.make(d, "a", ondisk.ObjFile)
	text := make([]byte, 1<<16)
	for i := range text {
		text[i] = byte(i >> 4)
	}
	for i := range uint64(64) {
		r.write(a, i<<16, text)
	}
	r.check("compressed", nil)
}

// TestQuotaConcurrent: writers side by side do not get more than the limit.
func TestQuotaConcurrent(t *testing.T) {
	r := newQuotaRig(t)
	d := r.mkdir(ondisk.InumRoot, "d")
	r.quota(d, Limits{Bytes: 2 << 20, Inodes: 30})
	done := make(chan error)
	for w := range 4 {
		go func() {
			for i := range 20 {
				rec, err := r.f.Create(r.ctx, d, fmt.Sprint(w, "-", i), NewNode{Type: ondisk.ObjFile})
				if err == syscall.EDQUOT {
					continue
				}
				if err == nil {
					r.f.Forget(rec.Meta.Inum, 1)
					_, err = r.f.Write(r.ctx, rec.Meta.Inum, 0, noise(150000, uint64(i)), false)
				}
				if err != nil && err != syscall.EDQUOT {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		r.must(<-done)
	}
	r.check("concurrent", nil)
	q, _, err := r.f.QuotaOf(r.ctx, d)
	r.must(err)
	if q.Bytes > 2<<20 || q.Inodes != 30 || q.Bytes < 2<<20-3<<16 {
		t.Fatalf("%+v", q)
	}
}

func TestQuotaBorders(t *testing.T) {
	r := newQuotaRig(t)
	a, b := r.mkdir(ondisk.InumRoot, "a"), r.mkdir(ondisk.InumRoot, "b")
	r.quota(a, Limits{Bytes: 300 << 10})
	r.quota(b, Limits{Bytes: 100 << 10})
	big, small := r.make(a, "big", ondisk.ObjFile), r.make(a, "small", ondisk.ObjFile)
	r.write(big, 0, noise(200<<10, 1))
	r.write(small, 0, noise(30<<10, 2))
	full := r.mkdir(a, "full")
	r.make(full, "f", ondisk.ObjFile)
	r.mkdir(a, "empty")
	expect := func(what string, got, want error) {
		t.Helper()
		if got != want {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
	move := func(name string) error { return r.f.Rename(r.ctx, a, name, b, name, 0) }
	expect("too large", move("big"), syscall.EDQUOT)
	expect("small", move("small"), nil)
	expect("directory", move("full"), syscall.EXDEV)
	expect("empty directory", move("empty"), nil)
	_, err := r.f.Link(r.ctx, big, b, "link")
	expect("link", err, syscall.EXDEV)
	_, err = r.f.Link(r.ctx, big, a, "link")
	expect("link inside", err, nil)
	r.f.Forget(big, 1)
	expect("two names", move("big"), syscall.EXDEV)
	expect("exchange", r.f.Rename(r.ctx, a, "full", b, "small", RenameExchange), syscall.EXDEV)
	r.check("borders", nil)
	// A directory with an account of its own moves with all it has.
	r.must(r.f.SetQuota(r.ctx, full, func(*Limits) {}))
	r.must(r.f.WaitQuota(r.ctx, full))
	expect("account", move("full"), nil)
	r.check("an account moved", nil)
	r.must(r.f.ClearQuota(r.ctx, full))
	r.check("given up", nil)
	if q, _, _ := r.f.QuotaOf(r.ctx, b); q.Inodes != 5 {
		t.Fatalf("b has %+v", q)
	}
	tmp, err := r.f.CreateUnnamed(r.ctx, a, NewNode{Type: ondisk.ObjFile})
	r.must(err)
	r.write(tmp.Meta.Inum, 0, noise(5000, 3))
	_, err = r.f.Link(r.ctx, tmp.Meta.Inum, b, "tmp")
	expect("first name", err, nil)
	r.f.Forget(tmp.Meta.Inum, 2)
	r.check("first name", nil)
	r.close()
	r.fsck()
}

// A limit holds from when the tree is counted on, not only from the next commit.
func TestQuotaHoldsOnceCounted(t *testing.T) {
	r := newQuotaRig(t)
	dir := r.mkdir(ondisk.InumRoot, "dir")
	r.write(r.make(dir, "was", ondisk.ObjFile), 0, noise(10*ondisk.LogicalBlock, 1))
	late := r.make(dir, "late", ondisk.ObjFile)
	r.must(r.pool.Sync(r.ctx))
	r.quota(dir, Limits{Bytes: 11 * ondisk.LogicalBlock})
	r.must(r.f.QuotaInForce(r.ctx, dir))
	_, err := r.f.Write(r.ctx, late, 0, noise(2*ondisk.LogicalBlock, 2), false)
	if Errno(err) != syscall.EDQUOT {
		t.Fatalf("a block more than fits: %v, want %v", err, syscall.EDQUOT)
	}
	r.check("counted", nil)
	r.close()
	r.fsck()
}

// TestQuotaClearedAndSet: an account in one that is given up and made again in
// one commit is part of the new one's sums.
func TestQuotaClearedAndSet(t *testing.T) {
	r := newQuotaRig(t)
	outer := r.mkdir(ondisk.InumRoot, "outer")
	inner := r.mkdir(outer, "inner")
	r.write(r.make(inner, "f", ondisk.ObjFile), 0, noise(70000, 1))
	r.quota(outer, Limits{})
	r.quota(inner, Limits{})
	r.check("set", nil)
	r.must(r.f.ClearQuota(r.ctx, outer))
	r.must(r.f.WaitQuota(r.ctx, outer))
	r.quota(outer, Limits{})
	r.check("cleared and set", nil)
	r.close()
	r.fsck()
}

// An account is given up while it is being counted: files that only a process
// has open go to the account around it, too.
func TestQuotaClearedWhileCounted(t *testing.T) {
	r := newQuotaRig(t)
	outer := r.mkdir(ondisk.InumRoot, "outer")
	inner := r.mkdir(outer, "inner")
	below := r.mkdir(inner, "below")
	late := r.make(below, "late", ondisk.ObjFile)
	r.quota(outer, Limits{})
	r.quota(inner, Limits{})
	rec, err := r.f.Create(r.ctx, inner, "open", NewNode{Type: ondisk.ObjFile, Mode: 0o644})
	r.must(err)
	open := rec.Meta.Inum
	r.must(r.f.Unlink(r.ctx, inner, "open"))
	n, _, err := r.f.lock(r.ctx, late) // the count stops here
	r.must(err)
	r.must(r.f.RecountQuotas(r.ctx))
	gen := r.f.quotas.genOf(inner)
	for { // it has entered the open file
		rec, _, err := r.pool.Inode(r.ctx, open)
		r.must(err)
		if rec.Meta.Account == inner && rec.Meta.AccountGen == gen {
			break
		}
		runtime.Gosched()
	}
	r.must(r.f.ClearQuota(r.ctx, inner))
	r.f.unlock(n)
	r.must(r.f.WaitQuota(r.ctx, inner))
	r.check("cleared", []uint64{open})
	if rec, _, err := r.pool.Inode(r.ctx, open); err != nil || rec.Meta.Account != outer {
		t.Errorf("%v, the open file is in account %d, want %d", err, rec.Meta.Account, outer)
	}
	r.f.Forget(open, 1)
	r.close()
	r.fsck()
}

// disown makes the volume look as if another system had written it last.
func (r *quotaRig) disown() {
	r.t.Helper()
	r.disk.Reopen()
	block := make([]byte, ondisk.HeaderSize)
	for _, off := range ondisk.SlotOffsets(uint64(r.disk.Size())) {
		_, err := r.disk.ReadAt(block, off)
		r.must(err)
		hdr, err := ondisk.DecodeVolumeHeader(block)
		if err != nil {
			continue // a slot that was not written yet
		}
		hdr.Mark.MirrorTid--
		hdr.Encode(block)
		_, err = r.disk.WriteAt(block, off)
		r.must(err)
	}
	r.must(r.disk.Flush())
}

// newLoneAccount is a filesystem of one copy with a directory d that is accounted for.
func newLoneAccount(t *testing.T) (r *quotaRig, d uint64) {
	t.Helper()
	r = newLoneRig(t)
	d = r.mkdir(ondisk.InumRoot, "d")
	r.write(r.make(d, "f", ondisk.ObjFile), 0, noise(70000, 1))
	r.quota(d, Limits{Bytes: 1 << 20})
	r.must(r.pool.Sync(r.ctx))
	return r, d
}

// TestQuotaAfterOthers: what another system did to a single copy is counted
// anew by itself, once, and by the next mount if a crash comes between.
func TestQuotaAfterOthers(t *testing.T) {
	r, d := newLoneAccount(t)
	gen := r.f.quotas.genOf(d)
	for _, crash := range []bool{false, true} {
		r.close()
		r.disown()
		r.open()
		if q := r.f.quotas; !crash {
			q.counter.wg.Wait()
		} else {
			r.crash()
			r.f.quotas.counter.wg.Wait()
		}
		now := r.f.quotas.genOf(d)
		if now == gen {
			t.Fatalf("crash %v: nothing was counted", crash)
		}
		r.check("counted anew", nil)
		r.close()
		r.open()
		r.f.quotas.counter.wg.Wait()
		if gen = r.f.quotas.genOf(d); gen != now {
			t.Fatalf("crash %v: it is counted at each mount", crash)
		}
	}
}

// TestQuotaAfterConvert: nobody knows who wrote a filesystem of one copy before it
// was made a cluster, so that is counted anew, once.
func TestQuotaAfterConvert(t *testing.T) {
	r, d := newLoneAccount(t)
	gen := r.f.quotas.genOf(d)
	changed := func() uint64 {
		rec, err := r.f.Stat(r.ctx, d)
		r.must(err)
		return rec.Meta.Ctime
	}
	ctime := changed()
	r.close()
	r.disk.Reopen()
	v, err := chain.Open(r.ctx, []ondisk.Device{r.disk}, chain.Options{})
	r.must(err)
	_, err = cluster.Convert(r.ctx, v, testLabel)
	r.must(errors.Join(err, v.Close()))
	for i := range 2 {
		r.open()
		r.f.quotas.counter.wg.Wait()
		if now := r.f.quotas.genOf(d); (now == gen) != (i > 0) {
			t.Fatalf("mount %d: count %d, before it was %d", i, now, gen)
		} else {
			gen = now
		}
		if now := changed(); now != ctime {
			t.Errorf("mount %d: counting changed the directory at %d, it was changed at %d", i, now, ctime)
		}
		r.check("of the cluster", nil)
		r.close()
	}
	r.open()
}

// TestQuotaCountsHaveNumbers: no directory has two counts of one number, though
// the clock stands still. What stayed charged to the earlier one would be in both.
func TestQuotaCountsHaveNumbers(t *testing.T) {
	r := newQuotaRig(t)
	d := r.mkdir(ondisk.InumRoot, "d")
	r.write(r.make(d, "f", ondisk.ObjFile), 0, noise(70000, 1))
	seen := make(map[uint32]bool)
	for i := range 4 {
		r.f.now = func() time.Time { return time.Unix(1e9, 0) }
		r.quota(d, Limits{})
		if gen := r.f.quotas.genOf(d); seen[gen] {
			t.Fatalf("count %d has number %d once more", i, gen)
		} else {
			seen[gen] = true
		}
		r.check("set", nil)
		r.must(r.f.ClearQuota(r.ctx, d))
		r.must(r.f.WaitQuota(r.ctx, d))
		r.close()
		r.open()
	}
}

// TestQuotaRandom makes calls at random and counts after each few, across
// crashes and mounts.
func TestQuotaRandom(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := newQuotaRig(t)
			l := &quotaLife{quotaRig: r, rnd: rand.New(rand.NewPCG(seed, 9))}
			for i := range 250 {
				what := l.step()
				if i%4 == 0 {
					r.check(fmt.Sprintf("call %d, %s", i, what), l.unnamed)
				}
			}
			r.close()
			r.fsck()
		})
	}
}

// A quotaLife is what TestQuotaRandom does.
type quotaLife struct {
	*quotaRig
	rnd     *rand.Rand
	unnamed []uint64 // referred to by us, as by a kernel
	names   int
}

// dirs and files are what there is now.
func (l *quotaLife) list() (dirs []uint64, files []ondisk.Dirent, in []uint64) {
	dirs = []uint64{ondisk.InumRoot}
	for i := 0; i < len(dirs); i++ {
		l.must(l.pool.ReadDir(l.ctx, dirs[i], 0, func(d ondisk.Dirent) bool {
			files, in = append(files, d), append(in, dirs[i])
			if d.Type == ondisk.ObjDir {
				dirs = append(dirs, d.Inum)
			}
			return true
		}))
	}
	return dirs, files, in
}

func (l *quotaLife) step() string {
	dirs, files, in := l.list()
	dir := dirs[l.rnd.IntN(len(dirs))]
	l.names++
	name := fmt.Sprint(l.names)
	var d ondisk.Dirent
	var from uint64
	if len(files) > 0 {
		i := l.rnd.IntN(len(files))
		d, from = files[i], in[i]
	}
	isFile := d.Type == ondisk.ObjFile
	allow := func(err error, more ...error) {
		l.t.Helper()
		for _, e := range append(more, nil, syscall.EDQUOT, syscall.EXDEV, syscall.EBUSY) {
			if err == e {
				return
			}
		}
		l.must(err)
	}
	switch n := l.rnd.IntN(40); {
	case n < 8 || d.Inum == 0:
		typ := []ondisk.ObjType{ondisk.ObjDir, ondisk.ObjFile, ondisk.ObjFile, ondisk.ObjSymlink}[l.rnd.IntN(4)]
		rec, err := l.f.Create(l.ctx, dir, name, NewNode{Type: typ, Mode: 0o755, Target: string(make([]byte, 1+l.rnd.IntN(1000)))})
		if allow(err); err == nil {
			l.f.Forget(rec.Meta.Inum, 1)
		}
		return fmt.Sprint("create ", typ, dir, err)
	case n < 16 && isFile:
		p := noise(l.rnd.IntN(150000), l.rnd.Uint64())
		if l.rnd.IntN(2) == 0 {
			clear(p[len(p)/3:])
		}
		_, err := l.f.Write(l.ctx, d.Inum, uint64(l.rnd.IntN(200000)), p, false)
		allow(err)
		return "write"
	case n < 18 && isFile:
		size := uint64(l.rnd.IntN(300000))
		_, err := l.f.Setattr(l.ctx, d.Inum, Change{Size: &size})
		allow(err)
		return "truncate"
	case n < 19 && isFile:
		if j := l.rnd.IntN(len(files)); files[j].Type == ondisk.ObjFile && j != slices.Index(files, d) {
			_, err := l.f.Copy(l.ctx, d.Inum, uint64(l.rnd.IntN(2))<<16, files[j].Inum, uint64(l.rnd.IntN(3))<<16, 300000, false)
			allow(err, syscall.EINVAL)
		}
		return "copy"
	case n < 20 && isFile:
		allow(l.f.Fallocate(l.ctx, d.Inum, uint64(l.rnd.IntN(100000)), 1+uint64(l.rnd.IntN(150000)), FallocPunchHole|FallocKeepSize, false))
		return "punch"
	case n < 24 && d.Type != ondisk.ObjDir:
		if held := l.rnd.IntN(3) == 0; held {
			_, _, err := l.f.Lookup(l.ctx, from, d.Name)
			l.must(err)
			l.unnamed = append(l.unnamed, d.Inum)
		}
		l.must(l.f.Unlink(l.ctx, from, d.Name))
		return fmt.Sprint("unlink ", d.Inum)
	case n < 25 && d.Type == ondisk.ObjDir:
		allow(l.f.Rmdir(l.ctx, from, d.Name), syscall.ENOTEMPTY)
		return fmt.Sprint("rmdir ", d.Inum, from)
	case n < 29:
		allow(l.f.Rename(l.ctx, from, d.Name, dir, name, 0), syscall.EINVAL)
		return fmt.Sprint("rename ", d.Inum, " from ", from, " to ", dir)
	case n < 30:
		j := l.rnd.IntN(len(files))
		allow(l.f.Rename(l.ctx, from, d.Name, in[j], files[j].Name, []RenameFlags{0, RenameExchange}[l.rnd.IntN(2)]),
			syscall.EINVAL, syscall.ENOTEMPTY, syscall.EISDIR, syscall.ENOTDIR)
		return "replace"
	case n < 32 && d.Type != ondisk.ObjDir:
		if _, err := l.f.Link(l.ctx, d.Inum, dir, name); err == nil {
			l.f.Forget(d.Inum, 1)
			l.linked = append(l.linked, d.Inum)
		} else {
			allow(err)
		}
		return "link"
	case n < 35:
		if l.rnd.IntN(6) > 0 && dir == ondisk.InumRoot {
			return "nothing"
		}
		limit := Limits{Bytes: uint64(l.rnd.IntN(4)) << 19, Inodes: uint64(l.rnd.IntN(2) * 100)}
		allow(l.f.SetQuota(l.ctx, dir, func(to *Limits) { *to = limit }))
		return fmt.Sprint("quota set ", dir)
	case n < 36:
		allow(l.f.ClearQuota(l.ctx, dir), syscall.ENODATA)
		return "quota clear"
	case n < 37:
		l.must(l.f.RecountQuotas(l.ctx))
		return "recount"
	case n < 38:
		for _, inum := range l.unnamed {
			l.f.Forget(inum, 1)
		}
		l.unnamed = nil
		return "forget"
	case n < 39:
		if l.rnd.IntN(3) > 0 {
			return "nothing"
		}
		l.unnamed = nil
		if l.rnd.IntN(2) == 0 {
			l.crash()
			return "crash"
		}
		l.close()
		l.fsck()
		l.open()
		return "remount"
	}
	l.must(l.pool.Sync(l.ctx))
	return "sync"
}

// TestQuotaOfForgottenRoot: the root directory need not be in the table.
func TestQuotaOfForgottenRoot(t *testing.T) {
	r := newQuotaRig(t)
	d := r.mkdir(ondisk.InumRoot, "d")
	r.f.table = newTable(0)
	r.quota(d, Limits{Bytes: 1 << 20})
	r.check("set", nil)
}
