package scrub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// MaxTranquility is the gentlest pace: ten times as much rest as work.
const MaxTranquility = 10

// DefaultTranquility is that of scrubs started by schedule.
const DefaultTranquility = 2

// Errors of commands.
var (
	ErrRunning = errors.New("a scrub is running: anvilfs scrub status MNT shows it, anvilfs scrub resume MNT -t N gives it another pace, anvilfs scrub stop MNT ends it")
	ErrPaused  = errors.New("a scrub is paused: anvilfs scrub resume MNT lets it go on, anvilfs scrub stop MNT ends it")
	ErrNone    = errors.New("no scrub is running: anvilfs scrub start MNT begins one")
)

// A Manager runs the scrubs of one pool, one at a time.
type Manager struct {
	peers Peers
	o     Options
	wake  chan struct{} // a job was set

	mu    sync.Mutex // guards all below
	job   *job       // the one that runs, nil = none
	last  Report
	since time.Time // when the schedule was first looked at; zero = never
}

// errStopped: the operator ended the scrub.
var errStopped = errors.New("stopped")

// NewManager returns a manager; Run starts it.
func NewManager(peers Peers, o Options) *Manager {
	o.setDefaults()
	return &Manager{peers: peers, o: o, wake: make(chan struct{}, 1), last: Report{Phase: Idle, ETA: -1}}
}

// Run goes on with a scrub that a restart interrupted, starts scrubs by
// schedule and runs those that are asked for, until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	if old := m.o.Load(); old != nil {
		m.mu.Lock()
		m.since = old.Since
		switch old.Report.Phase {
		case Verifying, Comparing, Paused:
			m.job = newJob(m.peers, &m.o, old, 0)
		default:
			m.last = old.Report
		}
		m.mu.Unlock()
	}
	m.begin()
	for ctx.Err() == nil {
		if j := m.current(); j != nil {
			m.drive(ctx, j)
			continue
		}
		timer := time.NewTimer(m.untilNext())
		select {
		case <-m.wake:
		case <-timer.C:
			if m.o.Every > 0 && m.untilNext() <= 0 {
				_ = m.Start(DefaultTranquility) // unless somebody was faster
			}
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// begin notes when the schedule began: a filesystem that was never scrubbed is
// scrubbed so long after its first mount with a schedule, not after each mount.
func (m *Manager) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.o.Every <= 0 || !m.since.IsZero() || m.job != nil {
		return
	}
	m.since = time.Now()
	if err := m.o.Save(&State{Report: m.last, Since: m.since}); err != nil {
		m.o.Logger.Warn("the begin of the scrub's schedule was not kept", "err", err)
	}
}

// untilNext is the time to the next look at the schedule.
func (m *Manager) untilNext() time.Duration {
	const look = time.Hour
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.o.Every <= 0 {
		return look
	}
	return min(time.Until(m.nextLocked()), look)
}

// nextLocked is when the schedule wants a scrub.
func (m *Manager) nextLocked() time.Time {
	last := m.since
	if m.last.Ended.After(last) {
		last = m.last.Ended
	}
	return last.Add(m.o.Every)
}

func (m *Manager) current() *job {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.job
}

// drive runs a job to its end.
func (m *Manager) drive(ctx context.Context, j *job) {
	defer context.AfterFunc(ctx, func() { j.cancel(ctx.Err()) })()
	m.o.Logger.Info("scrub begins", "tranquility", j.tranquility())
	j.save() // it goes on after a crash, too
	err := j.run(j.ctx)
	stopped := errors.Is(context.Cause(j.ctx), errStopped)
	j.cancel(nil)
	j.mu.Lock()
	switch {
	case stopped:
		j.rep.Phase = Stopped
	case ctx.Err() != nil: // unmounted: the phase says that there is more to do
	case err != nil:
		j.rep.Phase, j.rep.Err = Failed, err.Error()
	default:
		j.rep.Phase = Done
	}
	if ctx.Err() == nil || stopped {
		j.rep.Ended = time.Now()
	}
	j.saveLocked()
	rep := j.reportLocked()
	j.mu.Unlock()
	m.mu.Lock()
	m.job, m.last = nil, rep
	m.mu.Unlock()
	close(j.ended)
	if rep.Phase == Done {
		m.o.Compared(rep.Began)
	}
	m.o.Logger.Info("scrub ended", "phase", string(rep.Phase), "bytes", rep.Bytes, "bad", rep.Bad, "differing", rep.Differing,
		"repaired", rep.Repaired, "unrepaired", rep.Unrepaired, "err", rep.Err)
}

// Start begins a scrub.
func (m *Manager) Start(tranquility int) error {
	if err := checkTranquility(tranquility); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.job != nil {
		if m.job.report().Phase == Paused {
			return ErrPaused
		}
		return ErrRunning
	}
	j := newJob(m.peers, &m.o, &State{Since: m.since}, tranquility)
	if len(j.lanes) == 0 {
		return errors.New("no member is in sync: there is nothing to verify")
	}
	m.job = j
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return nil
}

// Pause makes the scrub wait, also over a restart.
func (m *Manager) Pause() error { return m.with(func(j *job) { j.pause(true) }) }

// Resume lets a paused scrub go on.
func (m *Manager) Resume() error { return m.with(func(j *job) { j.pause(false) }) }

// Pace gives the scrub another tranquility.
func (m *Manager) Pace(tranquility int) error {
	if err := checkTranquility(tranquility); err != nil {
		return err
	}
	return m.with(func(j *job) { j.setTranquility(tranquility) })
}

func checkTranquility(n int) error {
	if n < 0 || n > MaxTranquility {
		return fmt.Errorf("tranquility %d: 0 (no rest) to %d (mostly rest)", n, MaxTranquility)
	}
	return nil
}

// Stop ends the scrub for good.
func (m *Manager) Stop() error { return m.with(func(j *job) { j.cancel(errStopped) }) }

// Wait returns once no scrub runs, at once if none does, and says how the last
// one ended: nil if it went through and left nothing bad. A paused one runs.
func (m *Manager) Wait(ctx context.Context) error {
	if j := m.current(); j != nil {
		select {
		case <-j.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	rep := m.Report()
	switch {
	case rep.Phase == Idle:
		return errors.New("no scrub was run here: anvilfs scrub start MNT begins one")
	case rep.Phase == Failed:
		return fmt.Errorf("the scrub failed: %s", rep.Err)
	case rep.Phase != Done:
		return errors.New("the scrub was ended before it was done: anvilfs scrub status MNT shows how far it came")
	case rep.Unrepaired > 0:
		return fmt.Errorf("the scrub left %d bad: anvilfs errors list MNT names the paths", rep.Unrepaired)
	}
	if len(rep.Absent) > 0 {
		a := &rep.Absent[0]
		return fmt.Errorf("the scrub did not verify %s: it was %s", a.Node, a.State)
	}
	for i := range rep.Lanes {
		if l := &rep.Lanes[i]; l.Err != "" {
			return fmt.Errorf("the scrub did not verify %s to the end: %s", l.Node, l.Err)
		}
	}
	return nil
}

func (m *Manager) with(fn func(*job)) error {
	j := m.current()
	if j == nil {
		return ErrNone
	}
	fn(j)
	return nil
}

// Report is that of the scrub that runs, or of the last one.
func (m *Manager) Report() Report {
	m.mu.Lock()
	j, rep := m.job, m.last
	if j == nil && m.o.Every > 0 {
		rep.Next = m.nextLocked()
	}
	m.mu.Unlock()
	if j != nil {
		rep = j.report()
	}
	st := m.peers.Status()
	return ofMembers(rep, &st)
}
