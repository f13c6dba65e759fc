package crash

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/chain/crashtest"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs/merge"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// branchShape is a master and a soft master.
var branchShape = Shape{Name: "branch", Masters: 2, Size: 96 << 20}

// Phases of a branch that comes back. They may be seen in this order only; each
// conflict that is decided is one more.
const (
	phaseApart  = iota // some of it may be merged
	phaseMerged        // all of it is, and the branch is still there
	phaseEnded         // it is a member again
)

// A comeback is a soft master that was changed while it was away, as was the
// cluster, and all that is to be seen of its return.
type comeback struct {
	seed   uint64
	race   bool     // commits come at any time, not after some items
	gives  bool     // it is given up, not merged
	began  int64    // what the clock of the next session says at first
	theirs []string // what the cluster has when the branch comes back
	shows  [][]string
	large  [2]string // the file that takes several transactions, before and after
}

// A merging is a session that takes the branch back.
type merging struct {
	*session
	*comeback
	made    []crashtest.Moment
	from    int // the phase that it began with
	pending error
}

func (c *comeback) session(ctx context.Context, tap *crashtest.Tap, devs []ondisk.Device, seed uint64) *merging {
	s := newSession(ctx, branchShape, tap, devs, seed)
	s.ticks.Store(c.began)
	return &merging{session: s, comeback: c}
}

// part makes the cluster, has both sides changed, and returns the devices.
func (c *comeback) part(ctx context.Context) (*memdev.Device, error) {
	img, err := branchShape.buildRoles(ctx, []ondisk.PFSType{ondisk.PFSMaster, ondisk.PFSSoftMaster})
	if err != nil {
		return nil, err
	}
	m := c.session(ctx, nil, crashdev.Split(img, branchShape.sizes()...), c.seed)
	both := branchShape.specs(m.devs)
	c.large = [2]string{strings.Repeat("before", 40_000), strings.Repeat("after!", 40_000)}
	for _, act := range []struct {
		members []cluster.MemberSpec
		do      func() error
	}{{both, m.base}, {both[1:], m.ours}, {both[:1], m.others}} {
		if err := m.mount(act.members...); err != nil {
			return nil, err
		}
		if err := errors.Join(act.do(), m.close()); err != nil {
			return nil, err
		}
	}
	c.began = m.ticks.Load()
	return img, nil
}

// record takes the branch back under a tap.
func (c *comeback) record(ctx context.Context) (*crashtest.Recording, error) {
	img, err := c.part(ctx)
	if err != nil {
		return nil, fmt.Errorf("before it comes back: %w", err)
	}
	m := c.session(ctx, branchShape.newTap(img, c.seed), nil, c.seed)
	if c.gives { // what the cluster has is what there is, before and after
		c.shows = [][]string{phaseApart: nil, phaseMerged: c.theirs, phaseEnded: c.theirs}
	}
	m.note("branch", phaseApart, 0)
	if c.gives {
		m.note("nothing to be merged", phaseMerged, 0)
	}
	err = m.mount(branchShape.specs(m.devs)...)
	if err == nil {
		err = m.play()
	}
	if err = errors.Join(err, m.close(), m.tap.Misuse()); err != nil {
		return nil, fmt.Errorf("without any cut: %w", err)
	}
	c.began = m.ticks.Load()
	return m.recording(), nil
}

func (m *merging) recording() *crashtest.Recording {
	made := m.made
	judge := func(ctx context.Context, img *memdev.Device, want []int) (uint64, error) {
		return m.judge(ctx, img, int(made[want[0]].Digest), int(made[want[len(want)-1]].Digest))
	}
	return &crashtest.Recording{Tap: m.tap, Moments: made, Judge: judge, Recover: m.recover}
}

// note adds a moment: a phase that is over, and acknowledged if begun is not
// what it is now.
func (m *merging) note(what string, phase, begun int) {
	if len(m.made) == 0 || phase > m.from {
		m.made = append(m.made, crashtest.Moment{What: what, Begun: begun, Acked: m.events(), Digest: uint64(phase)})
	}
}

// play takes the branch back from wherever it is, and decides all conflicts.
func (m *merging) play() error {
	b, err := m.back()
	if err != nil {
		return err
	}
	if b != nil {
		if err := m.take(b); err != nil {
			return err
		}
	}
	for {
		begun := m.events()
		more, err := m.decide()
		if err == nil && more {
			err = m.shown("decided", begun)
		}
		if err != nil || !more {
			return err
		}
	}
}

// take merges the branch and ends it.
func (m *merging) take(b *cluster.BranchNode) error {
	if m.gives {
		return m.giveUp(b)
	}
	begun := m.events()
	stop := m.racing()
	b, err := m.halfway(b)
	if err != nil {
		return errors.Join(fmt.Errorf("disturbed: %w", err), stop())
	}
	r := merge.New(m.f, m.pool, b, merge.Options{Kernel: &committer{m: m}, Now: m.clock, Small: ondisk.LogicalBlock})
	err = r.Merge(m.ctx)
	if err = errors.Join(err, stop(), m.pending); err != nil {
		return fmt.Errorf("merging: %w", err)
	}
	if len(m.shows) <= phaseMerged { // of the branch there is nothing to be shown
		m.shows = [][]string{phaseApart: nil}
	}
	if err := m.shown("merged", begun); err != nil {
		return err
	}
	begun = m.events()
	if _, err := m.pool.EndBranch(m.ctx, b); err != nil {
		return fmt.Errorf("ending it: %w", err)
	}
	if err := errors.Join(r.Finish(m.ctx), m.mendNodes()); err != nil {
		return err
	}
	return m.shown("ended", begun)
}

// giveUp does what the command does: it says what is lost, and ends the branch.
func (m *merging) giveUp(b *cluster.BranchNode) error {
	list, err := merge.Losses(m.ctx, b)
	if err != nil || len(list) == 0 {
		return fmt.Errorf("%d losses: %w", len(list), err)
	}
	begun := m.events()
	if _, err := m.pool.EndBranch(m.ctx, b); err != nil {
		return fmt.Errorf("giving it up: %w", err)
	}
	if err := m.mendNodes(); err != nil {
		return err
	}
	return m.shown("ended", begun)
}

// shown notes the next phase; what it looks like is learned from the first time.
func (m *merging) shown(what string, begun int) error {
	lines, err := m.lines()
	if err != nil {
		return err
	}
	phase := m.phase(lines, what != "merged")
	if phase <= phaseApart {
		if len(m.made) == 0 || m.learned() {
			return fmt.Errorf("%s: not what it was the first time: %s", what, differ(m.shows[phaseMerged], lines))
		}
		m.shows = append(m.shows, lines)
		if phase = len(m.shows) - 1; phase == phaseMerged {
			m.shows = append(m.shows, lines) // nothing is to be seen of the end
		}
	}
	m.note(what, phase, begun)
	return nil
}

// learned reports whether all phases are known: no conflict is left in the last.
func (c *comeback) learned() bool {
	n := len(c.shows)
	return n > phaseEnded+1 && !slices.ContainsFunc(c.shows[n-1], isConflict)
}

func isConflict(line string) bool { return strings.HasPrefix(line, "conflict ") }

// phase is that of what is shown; phaseApart if it is none of those known.
func (c *comeback) phase(lines []string, ended bool) int {
	for n := len(c.shows) - 1; n >= phaseMerged; n-- {
		if differ(c.shows[n], lines) == "" && (ended || n == phaseMerged) {
			return n
		}
	}
	return phaseApart
}

// A committer is told what items of a merge changed, and commits after some.
type committer struct {
	m    *merging
	told int
	stop func() // called after some items; nil = it goes on to the end
	at   int
}

// InvalidateInode implements merge.Kernel.
func (c *committer) InvalidateInode(uint64) {
	if c.told++; c.told == c.at && c.stop != nil {
		c.stop()
	}
	if c.told%3 == 0 && c.m.pending == nil && !c.m.race {
		c.m.pending = c.m.pool.Sync(c.m.ctx)
	}
}

// InvalidateEntry implements merge.Kernel.
func (c *committer) InvalidateEntry(uint64, string) { c.InvalidateInode(0) }

// halfway begins the merge and disturbs it after some items: in one story it is
// given up, and what is merged by then stays so; in another the branch is taken
// away, and comes back when the merge, which held it, has ended.
func (m *merging) halfway(b *cluster.BranchNode) (*cluster.BranchNode, error) {
	how := m.seed % 3
	if how == 0 || len(m.shows) > phaseMerged { // when a cut is recovered from, it goes on to the end
		return b, nil
	}
	ctx, cancel := context.WithCancel(m.ctx)
	defer cancel()
	away := make(chan error, 1)
	c := &committer{m: m, at: 1 + int(m.seed/3%6), stop: cancel}
	if how == 2 {
		c.stop = func() { // the command waits for the merge
			go func() { away <- m.pool.NodeOffline(m.ctx, "m1") }()
			m.gone()
		}
	}
	r := merge.New(m.f, m.pool, b, merge.Options{Kernel: c, Now: m.clock, Small: ondisk.LogicalBlock})
	err := r.Merge(ctx)
	if c.told < c.at {
		return nil, fmt.Errorf("it ended before: %w", err)
	}
	if how == 1 {
		if !errors.Is(err, context.Canceled) {
			return nil, fmt.Errorf("it went on: %w", err)
		}
		return b, nil
	}
	if err := errors.Join(<-away, m.pool.NodeOnline(m.ctx, "m1")); err != nil {
		return nil, err
	}
	if b, err = m.back(); err == nil && b == nil {
		err = errors.New("the branch is none any more")
	}
	return b, err
}

// gone waits until the branch is none any more for the pool.
func (m *merging) gone() {
	ctx, cancel := m.bounded()
	defer cancel()
	for changed := m.pool.Changed(); len(m.pool.Branches()) > 0; changed = m.pool.Changed() {
		select {
		case <-changed:
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// racing commits all the time until it is stopped, if commits race.
func (m *merging) racing() (stop func() error) {
	if !m.race {
		return func() error { return nil }
	}
	quit, ended := make(chan struct{}), make(chan error)
	go func() {
		for {
			err := m.pool.Sync(m.ctx)
			select {
			case <-quit:
				ended <- err
				return
			default:
			}
			if err != nil {
				<-quit
				ended <- err
				return
			}
		}
	}()
	return func() error { close(quit); return <-ended }
}

// back waits until it is known whether the branch still is one.
func (m *merging) back() (*cluster.BranchNode, error) {
	ctx, cancel := m.bounded()
	defer cancel()
	for {
		changed := m.pool.Changed()
		if list := m.pool.Branches(); len(list) == 1 {
			return &list[0], nil
		}
		for _, n := range m.pool.Status().Nodes {
			if n.Name == "m1" && (n.State == cluster.NodeInSync || n.State == cluster.NodeBehind || n.State == cluster.NodeResync) {
				return nil, m.mendNodes()
			}
		}
		select {
		case <-changed:
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("neither a branch nor a member: %s", m.describe())
		}
	}
}

// decide decides one conflict as the command does, and reports whether there
// was one.
func (m *merging) decide() (bool, error) {
	c, err := merge.ReadConflicts(m.ctx, m.f)
	if err != nil || len(c.List) == 0 {
		return false, err
	}
	k := c.List[0]
	id := k.Copy
	switch k.Path {
	case "both": // ours
		err = m.f.Rename(m.ctx, k.CopyDir, k.CopyName, k.Dir, k.Name, 0)
	case "both2": // theirs
		err = m.f.Unlink(m.ctx, k.CopyDir, k.CopyName)
	default:
		id = k.Path
	}
	if err == nil {
		err = merge.Forget(m.ctx, m.f, string(id))
	}
	return true, errors.Join(err, m.sync())
}

// lines are what the filesystem shows, and its conflicts.
func (m *merging) lines() ([]string, error) {
	d, err := dumpFS(m.ctx, m.f)
	if err != nil {
		return nil, err
	}
	c, err := merge.ReadConflicts(m.ctx, m.f)
	if err != nil {
		return nil, err
	}
	for _, k := range c.List {
		d.short = append(d.short, fmt.Sprintf("conflict %s: %s: %s", k.Path, k.What, k.Copy))
	}
	return d.short, nil
}
