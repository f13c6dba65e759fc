package fs

import (
	"fmt"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// rollback exchanges the content for that of a snapshot.
func (r *quotaRig) rollback(name string) (kept string) {
	r.t.Helper()
	r.must(r.f.Exchange(r.ctx, func(func()) (bool, error) {
		var err error
		kept, err = r.pool.SnapshotRollbackSettled(r.ctx, name, true, func(error) {})
		return err == nil, err
	}, func(Before) {}))
	return kept
}

// TestRollbackAccounts goes to where there was no account, back to where one was
// just being counted, and to where it had another limit.
func TestRollbackAccounts(t *testing.T) {
	r := newQuotaRig(t)
	dir := r.mkdir(ondisk.InumRoot, "dir")
	var last uint64
	for i := range 200 {
		last = r.make(dir, fmt.Sprint("f", i), ondisk.ObjFile)
		r.write(last, 0, noise(3000, uint64(i)))
	}
	snap := func(name string) {
		t.Helper()
		_, err := r.pool.SnapshotCreate(r.ctx, name, false)
		r.must(err)
	}
	snap("none")
	r.must(r.f.SetQuota(r.ctx, dir, func(l *Limits) { l.Inodes = 250 }))
	during := r.rollback("none") // it is being counted
	list, err := r.f.Quotas(r.ctx)
	r.must(err)
	wantEqual(t, "accounts before there were any", len(list), 0)
	r.write(last, 0, noise(70000, 1))

	r.rollback(during)
	r.must(r.f.WaitQuota(r.ctx, dir))
	exact := func(limit uint64) {
		t.Helper()
		r.must(r.pool.Sync(r.ctx))
		q, ok, err := r.f.QuotaOf(r.ctx, dir)
		r.must(err)
		bytes, inodes := r.recount(dir, nil)
		if want := (Quota{Inum: dir, Bytes: bytes, Inodes: inodes, MaxInodes: limit}); !ok || q != want {
			t.Errorf("the account is %+v, %v, want %+v", q, ok, want)
		}
	}
	exact(250)
	for i := range 49 {
		r.make(dir, fmt.Sprint("more", i), ondisk.ObjFile)
	}
	_, err = r.f.Create(r.ctx, dir, "too many", NewNode{Type: ondisk.ObjFile, Mode: 0o644})
	wantErr(t, toErrno(err), errQuota)
	snap("full")
	r.quota(dir, Limits{})
	for i := range 20 {
		r.make(dir, fmt.Sprint("unlimited", i), ondisk.ObjFile)
	}
	r.rollback("full")
	exact(250)
	_, err = r.f.Create(r.ctx, dir, "too many", NewNode{Type: ondisk.ObjFile, Mode: 0o644})
	wantErr(t, toErrno(err), errQuota)
	r.crash()
	exact(250)
}
