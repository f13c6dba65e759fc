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
//
// A cluster takes no such change in: its list says that it is one, with a number
// that no commit has. Without, it is the list of a single copy that was made a
// cluster, after who knows what, and is counted anew as well.
const sinceCluster = sinceBit

// changedByOthers reports whether somebody else wrote the filesystem since the
// accounts were right.
func (q *quotas) changedByOthers() bool {
	now := q.sinceNow()
	if now == sinceCluster && q.f.readOnly {
		return false // or a snapshot, which is as it was
	}
	return now == 0 || now != q.since
}

// sinceNow is what the list is to say if the sums are right now; 0: nothing, the
// last writer was not us.
func (q *quotas) sinceNow() uint64 {
	switch since, single := q.store.OursSince(); {
	case !single:
		return sinceCluster
	case since == 0:
		return 0
	default:
		return uint64(since) | sinceBit
	}
}

func (q *quotas) isStale() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stale
}

// noteSince prepares the list for the first account: its sums are going to be
// those of now.
func (q *quotas) noteSince() {
	now := q.sinceNow()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.accounts) == 0 {
		q.since = now
	}
}

// recountChanged counts all accounts anew and notes that they are right.
func (q *quotas) recountChanged(ctx context.Context) error {
	if err := q.f.RecountQuotas(ctx); err != nil {
		return err
	}
	q.f.log.Info("another system may have changed the filesystem: quotas are counted anew", "accounts", len(q.roots()))
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
	now := q.sinceNow()
	if now == 0 {
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
	q.since = now
	q.mu.Unlock()
	return q.storeList(ctx, t, s.node(ondisk.InumRoot), 0, 0)
}

// waitAnew returns when nothing is left to be counted anew.
func (c *counter) waitAnew(ctx context.Context) error {
	c.mu.Lock()
	anew := c.anew
	c.mu.Unlock()
	if anew == nil {
		return nil // read-only: nothing is counted
	}
	select {
	case <-anew:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
