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
	ErrRunning = errors.New("a scrub is running: scrub status shows it, scrub stop ends it")
	ErrNone    = errors.New("no scrub is running: scrub start begins one")
)

// A Manager runs the scrubs of one pool, one at a time.
type Manager struct {
	peers Peers
	o     Options
	wake  chan struct{} // a job was set

	mu   sync.Mutex // guards all below
	job  *job       // the one that runs, nil = none
	stop context.CancelCauseFunc
	last Report
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
		switch old.Report.Phase {
		case Verifying, Comparing, Paused:
			m.job = newJob(m.peers, &m.o, old, 0)
		default:
			m.last = old.Report
		}
		m.mu.Unlock()
	}
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

// untilNext is the time to the next look at the schedule.
func (m *Manager) untilNext() time.Duration {
	const look = time.Hour
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.o.Every <= 0 {
		return look
	}
	if m.last.Ended.IsZero() {
		// Never yet, as far as anybody knows: not right after the mount.
		m.last.Ended = time.Now()
	}
	return min(time.Until(m.last.Ended.Add(m.o.Every)), look)
}

func (m *Manager) current() *job {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.job
}

// drive runs a job to its end.
func (m *Manager) drive(ctx context.Context, j *job) {
	jctx, cancel := context.WithCancelCause(ctx)
	m.mu.Lock()
	m.stop = cancel
	m.mu.Unlock()
	m.o.Logger.Info("scrub begins", "tranquility", j.tranquility())
	err := j.run(jctx)
	stopped := errors.Is(context.Cause(jctx), errStopped)
	cancel(nil)
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
	m.job, m.stop, m.last = nil, nil, rep
	m.mu.Unlock()
	m.o.Logger.Info("scrub ended", "phase", string(rep.Phase), "bytes", rep.Bytes, "bad", rep.Bad, "differing", rep.Differing,
		"repaired", rep.Repaired, "unrepaired", rep.Unrepaired, "err", rep.Err)
}

// Start begins a scrub.
func (m *Manager) Start(tranquility int) error {
	if tranquility < 0 || tranquility > MaxTranquility {
		return fmt.Errorf("tranquility %d: 0 (no rest) to %d (mostly rest)", tranquility, MaxTranquility)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.job != nil {
		return ErrRunning
	}
	j := newJob(m.peers, &m.o, nil, tranquility)
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

// Stop ends the scrub for good.
func (m *Manager) Stop() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.job == nil || m.stop == nil {
		return ErrNone
	}
	m.stop(errStopped)
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
	m.mu.Unlock()
	if j != nil {
		rep = j.report()
	}
	if m.o.Every > 0 && j == nil && !rep.Ended.IsZero() {
		rep.Next = rep.Ended.Add(m.o.Every)
	}
	return rep
}
