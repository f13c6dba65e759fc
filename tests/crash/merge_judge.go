package crash

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/crashtest"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// judge opens an image, demands that it shows a phase of [first, last], and goes
// on to the end.
func (c *comeback) judge(ctx context.Context, img *memdev.Device, first, last int) (uint64, error) {
	devs := crashdev.Split(img, branchShape.sizes()...)
	for i, d := range devs {
		if err := crashtest.CheckStructure(d); err != nil {
			return 0, fmt.Errorf("member %d as it was left: %w", i, err)
		}
	}
	m := c.session(ctx, nil, devs, 1)
	phase, err := m.use(first, last)
	if err = errors.Join(err, m.close()); err == nil {
		err = m.sound()
	}
	return uint64(phase), err
}

func (m *merging) use(first, last int) (phase int, err error) {
	if err := m.mount(branchShape.specs(m.devs)...); err != nil {
		return 0, err
	}
	b, err := m.back()
	if err != nil {
		return 0, err
	}
	lines, err := m.lines()
	if err != nil {
		return 0, fmt.Errorf("reading it: %w", err)
	}
	phase = m.phase(lines, b == nil)
	switch {
	case phase < first:
		return 0, fmt.Errorf("phase %d, and %d was acknowledged: %s", phase, first, differ(m.shows[max(first, phaseMerged)], lines))
	case phase > last:
		return 0, fmt.Errorf("phase %d before it had begun", phase)
	}
	if phase == phaseApart {
		if err := m.between(lines); err != nil {
			return 0, err
		}
		if b == nil {
			return 0, fmt.Errorf("the branch ended before it was merged: %s", differ(m.shows[phaseMerged], lines))
		}
	}
	m.from = phase
	if err := m.play(); err != nil {
		return 0, fmt.Errorf("going on: %w", err)
	}
	if lines, err = m.lines(); err != nil {
		return 0, err
	}
	if diff := differ(m.shows[len(m.shows)-1], lines); diff != "" {
		return 0, fmt.Errorf("not the end it would have had: %s", diff)
	}
	if _, err := m.probe(); err != nil {
		return 0, fmt.Errorf("going on: %w", err)
	}
	m.noteLevel()
	return phase, nil
}

// between demands of a merge that is under way that each file is as the cluster
// had it or as it will be, and that nothing is missing that stays.
func (m *merging) between(lines []string) error {
	after := m.shows[phaseMerged]
	for _, line := range lines {
		if !slices.Contains(m.theirs, line) && !slices.Contains(after, line) && !isConflict(line) && !strings.HasPrefix(line, "/large ") {
			return fmt.Errorf("neither before nor after the merge: %s", line)
		}
	}
	for _, line := range m.theirs {
		if slices.Contains(after, line) && !slices.Contains(lines, line) {
			return fmt.Errorf("not there in between: %s", line)
		}
	}
	content, err := m.read("large")
	for i := 0; err == nil && i < len(content); i++ {
		if content[i] != m.large[0][i] && content[i] != m.large[1][i] {
			err = fmt.Errorf("the large file has %q at %d, neither its old nor its new byte", content[i], i)
		}
	}
	return err
}

// sound looks at the members of a filesystem that was closed.
func (m *merging) sound() error {
	if err := m.inspect(); err != nil {
		return err
	}
	var views []*chain.View
	for i, d := range m.devs {
		v, err := chain.Open(m.ctx, []ondisk.Device{d}, chain.Options{ReadOnly: true})
		if err != nil {
			return err
		}
		defer v.Close()
		infos, err := v.PFSs(m.ctx)
		if err != nil {
			return err
		}
		if i == 1 && !slices.ContainsFunc(infos, func(p chain.PFSInfo) bool { return strings.HasPrefix(p.Label, "branch-m1-") }) {
			return errors.New("the branch is not kept as a snapshot")
		}
		view, err := v.View(m.ctx, label)
		if err != nil {
			return err
		}
		defer view.Release()
		views = append(views, view)
	}
	_, _, _, err := chain.Diff(m.ctx, views[1], views[0], 0, chain.Cursor{}, chain.DiffLimits{Strict: true, Bare: true},
		func(ch chain.Change) error {
			if ch.Inum == ondisk.InumRoot && ch.Kind == chain.KindInode {
				return nil // what a node has of its own
			}
			return fmt.Errorf("the members differ in inode %d, kind %v, key %#x", ch.Inum, ch.Kind, ch.Key)
		},
		func(chain.Touch) error { return nil })
	return err
}

// recover takes the branch back from an image, under a tap.
func (c *comeback) recover(ctx context.Context, img *memdev.Device, from int, salt uint64) (*crashtest.Recording, error) {
	m := c.session(ctx, branchShape.newTap(img, salt), nil, salt)
	defer m.close()
	m.from = from
	m.note("cut", from, 0)
	if err := m.mount(branchShape.specs(m.devs)...); err != nil {
		return nil, err
	}
	if err := m.play(); err != nil {
		return nil, err
	}
	if err := m.close(); err != nil {
		return nil, err
	}
	return m.recording(), nil
}
