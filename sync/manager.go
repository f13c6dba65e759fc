package resync

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Pauses after a failure double from the first to the last.
const (
	firstPause = time.Second
	lastPause  = 60 * time.Second
)

// Options say how a Manager works; zero values are defaults.
type Options struct {
	Logger *slog.Logger
	Now    func() time.Time
}

// Pool is what a Manager watches: *cluster.Pool.
type Pool interface {
	Peers
	Changed() <-chan struct{}
	ResyncWanted() []string
	SetResyncReport(name string, report any)
}

// A Manager runs one Run for each node that needs one, several at once.
type Manager struct {
	pool Pool
	log  *slog.Logger
	now  func() time.Time

	mu      sync.Mutex
	running map[string]bool
}

// NewManager returns a manager that has not started.
func NewManager(p Pool, o Options) *Manager {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Manager{pool: p, log: o.Logger, now: o.Now, running: make(map[string]bool)}
}

// Run works until ctx ends and returns when all it started has ended.
func (m *Manager) Run(ctx context.Context) {
	var nodes sync.WaitGroup
	defer nodes.Wait()
	for {
		changed := m.pool.Changed()
		for _, name := range m.pool.ResyncWanted() {
			if m.claim(name) {
				nodes.Add(1)
				go func() {
					defer nodes.Done()
					defer m.unclaim(name)
					m.bring(ctx, name)
				}()
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (m *Manager) claim(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running[name] {
		return false
	}
	m.running[name] = true
	return true
}

func (m *Manager) unclaim(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.running, name)
}

// bring drives one node until it is in sync, is not wanted any more, or ctx
// ends.
func (m *Manager) bring(ctx context.Context, name string) {
	r := NewRun(name, m.pool, m.now, m.log)
	defer r.Stop()
	pause := firstPause
	for ctx.Err() == nil && (r.target != nil || m.wanted(name)) {
		more, err := r.Step(ctx)
		switch {
		case err == nil && more:
			m.pool.SetResyncReport(name, r.Report())
			pause = max(firstPause, pause/2)
			continue
		case err == nil:
			m.pool.SetResyncReport(name, r.Report())
			return
		case ctx.Err() != nil:
			return
		}
		m.log.Warn("resync failed, will be tried again", "node", name, "pause", pause, "err", err)
		r.update(func(rep *Report) { rep.Retry = m.now().Add(pause) })
		m.pool.SetResyncReport(name, r.Report())
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, lastPause)
	}
}

// wanted reports whether a node still needs a run. One that holds its node is
// carried to its end without asking.
func (m *Manager) wanted(name string) bool {
	for _, n := range m.pool.ResyncWanted() {
		if n == name {
			return true
		}
	}
	return false
}
