package crash

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
	resync "github.com/anvilfs/anvilfs/sync"
)

// dump is all that the filesystem shows, its snapshots included.
func (s *session) dump() (*dump, error) {
	d, err := dumpFS(s.ctx, s.f)
	if err != nil {
		return d, err
	}
	policy, err := s.policyLine()
	if err != nil {
		return d, err
	}
	if policy != "" {
		d.short, d.full = append(d.short, policy), append(d.full, policy)
	}
	names, err := s.pool.SnapshotNames(s.ctx)
	if err != nil || len(names) == 0 {
		return d, err
	}
	reports, err := s.pool.Snapshots(s.ctx, false)
	if err != nil {
		return nil, err
	}
	held := make(map[string]string)
	for _, r := range reports {
		for _, h := range r.Holds {
			held[r.Name] += h.Owner
		}
	}
	slices.SortFunc(names, func(a, b cluster.SnapshotName) int { return strings.Compare(a.Name, b.Name) })
	for _, n := range names {
		shown, err := s.dumpSnapshot(n)
		if err != nil {
			return nil, fmt.Errorf("snapshot %s: %w", n.Name, err)
		}
		d.short = append(d.short, snapLine(n.Name, held[n.Name], shown.short))
		d.full = append(d.full, snapLine(n.Name, held[n.Name], shown.full))
	}
	return d, nil
}

func (s *session) dumpSnapshot(n cluster.SnapshotName) (d *dump, err error) {
	p, err := s.pool.OpenSnapshot(s.ctx, n)
	if err != nil {
		return nil, err
	}
	return s.dumpPool(p)
}

// dumpPool shows what a pool holds, and closes it.
func (s *session) dumpPool(p *cluster.Pool) (d *dump, err error) {
	f, err := s.serve(s.ctx, p, true)
	if err == nil {
		d, err = dumpFS(s.ctx, f)
		err = errors.Join(err, f.Close(s.ctx))
	}
	return d, errors.Join(err, p.Close(s.ctx))
}

// synced is a step that makes one call and syncs.
func synced(do func(*session, *model) error) func(*session) error {
	return func(s *session) error {
		if err := s.call(call{"snapshots", do}); err != nil {
			return err
		}
		return s.sync()
	}
}

// oldest is the snapshot made first of those there are.
func (m *model) oldest() (name string, err error) {
	names := slices.Sorted(maps.Keys(m.snaps))
	if len(names) == 0 {
		return "", errSkip
	}
	return names[0], nil
}

func callSnapshot(s *session, m *model) error {
	name := fmt.Sprintf("s%03d", len(s.moments))
	m.snaps[name] = snap{files: maps.Clone(m.files)}
	_, err := s.pool.SnapshotCreate(s.ctx, name, false)
	return err
}

func callHold(s *session, m *model) error {
	name, err := m.oldest()
	if err != nil {
		return err
	}
	m.snaps[name] = snap{m.snaps[name].files, "me"}
	return s.pool.SnapshotHold(s.ctx, name, "me", time.Time{})
}

// callErase deletes the oldest snapshot, or finds that it is held.
func callErase(s *session, m *model) error {
	name, err := m.oldest()
	if err != nil {
		return err
	}
	err = s.pool.SnapshotDelete(s.ctx, name)
	if m.snaps[name].held != "" {
		if !errors.Is(err, cluster.ErrHeld) {
			return fmt.Errorf("deleting one that is held: %w", err)
		}
		m.snaps[name] = snap{files: m.snaps[name].files}
		return s.pool.SnapshotRelease(s.ctx, name, "me")
	}
	delete(m.snaps, name)
	return err
}

// callRollback puts back what a snapshot has, while nobody uses the filesystem.
func callRollback(s *session, m *model) error {
	name, err := m.oldest()
	if err != nil {
		return err
	}
	s.forget()
	f := s.f
	s.f = nil
	if err := f.Close(s.ctx); err != nil {
		return err
	}
	m.files = maps.Clone(m.snaps[name].files)
	if _, err := s.pool.SnapshotRollback(s.ctx, name, false); err != nil {
		return err
	}
	s.f, err = s.serve(s.ctx, s.pool, false)
	return err
}

// callRollbackOpen does so while the filesystem is in use.
func callRollbackOpen(s *session, m *model) error {
	name, err := m.oldest()
	if err != nil {
		return err
	}
	m.files = maps.Clone(m.snaps[name].files)
	return s.f.Exchange(s.ctx, func(func()) (bool, error) {
		_, err := s.pool.SnapshotRollbackSettled(s.ctx, name, false, func(error) {})
		return err == nil, err
	}, func(fs.Before) {})
}

// cloneMark is in the description of a file that is made once there is a clone.
const (
	cloneLabel = "CLONE"
	cloneMark  = "/cloned "
)

// stepClone makes a filesystem of a snapshot, and a file that says so.
func (s *session) stepClone() error {
	name, err := s.m.oldest()
	if err != nil {
		return err
	}
	if err := s.pool.SnapshotClone(s.ctx, name, cloneLabel, false); err != nil {
		return err
	}
	return synced(func(s *session, m *model) error {
		_, err := s.make(m, "cloned", fs.NewNode{Type: ondisk.ObjFile, Mode: 0o600})
		return err
	})(s)
}

// inspectClone demands that a clone, which so many of the members of a filesystem
// that was closed have, is on none or on enough, and can be read; if it was
// acknowledged, it is there.
func (s *session) inspectClone(have int) error {
	switch {
	case have == 0 && !s.cloned:
		return nil
	case have < s.shape.need() && s.cloned:
		return fmt.Errorf("an acknowledged clone is on %d of %d members", have, s.shape.Masters)
	case have < s.shape.need():
		return nil // its txg was never committed: no mount finds enough of it
	}
	p, err := cluster.OpenPool(s.ctx, s.shape.specs(s.devs)[:s.shape.Masters], cluster.Options{Label: cloneLabel, OnNoQuorum: cluster.EIO})
	if err == nil {
		_, err = s.dumpPool(p)
	}
	if err != nil {
		return fmt.Errorf("the clone: %w", err)
	}
	return nil
}

// copySnapshots waits until all members have the snapshots of the list.
func (s *session) copySnapshots() error {
	names, err := s.pool.SnapshotNames(s.ctx)
	if err != nil || s.shape.Masters == 1 || len(names) == 0 && !s.hadSnaps() {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		resync.NewManager(s.pool, resync.Options{}).Run(ctx)
	}()
	err = s.pool.Wait(ctx, cluster.WaitSnapshots)
	cancel()
	<-ended
	if err != nil {
		return fmt.Errorf("%w; %s", err, s.describe())
	}
	s.settle()
	return nil
}

// hadSnaps reports whether some member may have a snapshot that is to go.
func (s *session) hadSnaps() bool {
	for _, m := range s.moments {
		if len(m.m.snaps) > 0 {
			return true
		}
	}
	return false
}
