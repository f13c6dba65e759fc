package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/chain"
)

// period is a length of time by which snapshots are kept; all are of UTC.
type period func(time.Time) time.Time // its beginning

func hourOf(t time.Time) time.Time { return t.UTC().Truncate(time.Hour) }

func dayOf(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// weekOf begins on Monday.
func weekOf(t time.Time) time.Time {
	d := dayOf(t)
	return d.AddDate(0, 0, -(int(d.Weekday())+6)%7)
}

func monthOf(t time.Time) time.Time {
	u := t.UTC()
	return time.Date(u.Year(), u.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// A rule keeps the newest snapshot of each of the latest n periods that have one.
type rule struct {
	of period
	n  uint16
}

func (p SnapshotPolicy) rules() []rule {
	var rs []rule
	for _, r := range []rule{{hourOf, p.Hourly}, {dayOf, p.Daily}, {weekOf, p.Weekly}, {monthOf, p.Monthly}} {
		if r.n > 0 {
			rs = append(rs, r)
		}
	}
	return rs
}

// Due reports whether the shortest period of the policy has no automatic
// snapshot yet. With a clock that was set back it waits until the time comes
// again.
func (t *SnapshotTable) Due(now time.Time) bool {
	rules := t.Policy.rules()
	if len(rules) == 0 {
		return false
	}
	for i := range t.Entries {
		if e := &t.Entries[i]; e.Auto && !rules[0].of(e.Created).Before(rules[0].of(now)) {
			return false
		}
	}
	return true
}

// Expired names the automatic snapshots that no rule keeps and nobody holds.
// Without a policy none are: those there are were wanted once.
func (t *SnapshotTable) Expired(now time.Time) []string {
	rules := t.Policy.rules()
	if len(rules) == 0 {
		return nil
	}
	kept := make(map[string]bool)
	for _, r := range rules {
		var last time.Time
		left := int(r.n)
		for i := range slices.Backward(t.Entries) {
			e := &t.Entries[i]
			if at := r.of(e.Created); e.Auto && left > 0 && (last.IsZero() || at.Before(last)) {
				kept[e.Name], last = true, at
				left--
			}
		}
	}
	var names []string
	for i := range t.Entries {
		if e := &t.Entries[i]; e.Auto && !kept[e.Name] && !e.heldAt(now) {
			names = append(names, e.Name)
		}
	}
	return names
}

func (e *SnapshotEntry) heldAt(now time.Time) bool {
	return slices.ContainsFunc(e.Holds, func(h Hold) bool { return h.ActiveAt(now) })
}

// SnapshotPolicy returns the policy in force.
func (p *Pool) SnapshotPolicy(ctx context.Context) (SnapshotPolicy, error) {
	t, _, err := p.snapshotTable(ctx)
	if err != nil {
		return SnapshotPolicy{}, err
	}
	return t.Policy, nil
}

// SetSnapshotPolicy makes it another; it is carried out by KeepSnapshots.
func (p *Pool) SetSnapshotPolicy(ctx context.Context, to SnapshotPolicy) error {
	err := p.changeSnapshots(ctx, func(t *SnapshotTable) ([]chain.PFSOp, error) {
		t.Policy = to
		return nil, nil
	})
	if err != nil {
		return fmt.Errorf("snapshot policy: %w", err)
	}
	return nil
}

// ApplySnapshotPolicy makes an automatic snapshot if one is due, and deletes
// those that are kept no longer.
func (p *Pool) ApplySnapshotPolicy(ctx context.Context) error {
	table, _, err := p.snapshotTable(ctx)
	if err != nil || p.opts.ReadOnly {
		return err
	}
	now := p.now()
	if table.Due(now) {
		name := "auto-" + now.UTC().Format("2006-01-02T15.04")
		if table.find(name) >= 0 {
			name = "auto-" + now.UTC().Format("2006-01-02T15.04.05")
		}
		if _, err := p.SnapshotCreate(ctx, name, true); err != nil {
			return err
		}
		if table, _, err = p.snapshotTable(ctx); err != nil {
			return err
		}
	}
	if names := table.Expired(now); len(names) > 0 {
		return p.deleteSnapshots(ctx, names...)
	}
	return nil
}

// freeSnapshot gives a writer of so many bytes, for whom there is no room, that
// of an automatic snapshot. One at a time does it, and finds what it freed before
// the next looks whether that is enough: ErrNoSpace if no more may go.
func (p *Pool) freeSnapshot(ctx context.Context, bytes int64, data bool) error {
	select {
	case p.budget.oldest <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.budget.oldest }()
	if p.fits(bytes, data, false) {
		return nil
	}
	if !p.freeOldest(ctx) {
		return ErrNoSpace
	}
	if forget := p.forget.Load(); forget != nil {
		(*forget)(ctx)
	}
	for way := range lastWay + 1 {
		if err := p.makeRoom(ctx, way, bytes, data, false); err != nil {
			return err
		}
	}
	return nil
}

// OnForget sets what has others let go of snapshots that are deleted, and waits
// for it a moment: the space of what is looked at cannot be found.
func (p *Pool) OnForget(forget func(ctx context.Context)) { p.forget.Store(&forget) }

// freeOldest deletes the oldest automatic snapshot that nobody holds, if the
// policy lets writers have its space. false: there is none, or it may not go.
func (p *Pool) freeOldest(ctx context.Context) bool {
	table, _, err := p.snapshotTable(ctx)
	if err != nil || !table.Policy.FreeSpace {
		return false
	}
	now := p.now()
	i := slices.IndexFunc(table.Entries, func(e SnapshotEntry) bool { return e.Auto && !e.heldAt(now) })
	if i < 0 {
		return false
	}
	name := table.Entries[i].Name
	err = p.deleteSnapshots(ctx, name)
	if err != nil && !errors.Is(err, ErrNoSnapshot) { // somebody else was quicker
		p.log.Warn("the oldest automatic snapshot could not be freed", "snapshot", name, "err", err)
		return false
	}
	p.log.Info("an automatic snapshot was freed for its space", "snapshot", name)
	return true
}
