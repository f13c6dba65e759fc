package fs

import (
	"context"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Another system that writes a single copy leaves the accounts as they were.
// The volume knows since when all commits are ours, and the list of accounts
// since when they were when the sums were right: if that differs, all is counted
// anew. The list is brought up to date when that has ended, so a crash in between
// begins it again.

// changedByOthers reports whether somebody else wrote the filesystem since the
// accounts were right.
func (q *quotas) changedByOthers() bool {
	since, ok := q.store.OursSince()
	return ok && (since == 0 || uint64(since)|sinceBit != q.since)
}

func (q *quotas) isStale() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stale
}

// noteSince prepares the list for the first account: its sums are going to be
// those of now.
func (q *quotas) noteSince() {
	since, ok := q.store.OursSince()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.accounts) > 0 {
		return
	}
	if q.since = 0; ok && since != 0 {
		q.since = uint64(since) | sinceBit
	}
}

// recountChanged counts all accounts anew and notes that they are right.
func (q *quotas) recountChanged(ctx context.Context) error {
	if err := q.f.RecountQuotas(ctx); err != nil {
		return err
	}
	q.f.log.Info("another system changed the filesystem: quotas are counted anew", "accounts", len(q.roots()))
	q.mu.Lock()
	q.stale = false // its flags say that it is being counted
	q.mu.Unlock()
	for _, inum := range q.roots() {
		if err := q.wait(ctx, inum); err != nil {
			return err
		}
	}
	if err := q.f.store.Sync(ctx); err != nil { // from now on the last writer is us
		return err
	}
	since, ok := q.store.OursSince()
	if !ok || since == 0 {
		return nil
	}
	s := q.f.lockset()
	defer s.unlock()
	s.cover(ondisk.InumRoot)
	t, err := q.f.store.BeginFree(ctx)
	if err != nil {
		return err
	}
	defer t.End()
	q.mu.Lock()
	q.since = uint64(since) | sinceBit
	q.mu.Unlock()
	return q.storeList(ctx, t, s.node(ondisk.InumRoot), 0, 0)
}
