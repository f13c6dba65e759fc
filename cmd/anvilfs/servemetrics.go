package main

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/cmd/metrics"
)

// listenAgain is the pause before metrics are tried to be served again.
const listenAgain = 10 * time.Second

// metricsStatus is where metrics are served, or why they are not.
type metricsStatus struct {
	Metrics string `json:"metrics,omitempty"`         // HOST:PORT; "" = nowhere
	Wanted  string `json:"metrics_address,omitempty"` // as it was given, while nothing is served there
	Err     string `json:"metrics_error,omitempty"`   // why not
	Taken   bool   `json:"metrics_port_taken,omitempty"`
}

// A scraped is what answers Prometheus. A port that is taken, or an address that is
// not there yet, must not keep a filesystem from being mounted at boot, where nobody
// watches: status says so, and it is tried again.
type scraped struct {
	addr   string
	listen func() (*metrics.Server, error)
	pause  time.Duration
	log    *slog.Logger
	quit   chan struct{}
	ended  sync.WaitGroup

	mu  sync.Mutex // guards now
	now metricsStatus
}

// serveMetrics begins to answer Prometheus, until the result is called.
func serveMetrics(ctl *controller, o *mountOptions, ready *readiness, log *slog.Logger) (stop func()) {
	if o.metrics == "" {
		return func() {}
	}
	look := func() metrics.Look {
		r := ctl.report()
		return metrics.Look{Status: r.Status, Copies: r.Integrity, Trees: ctl.trees.known(), Calls: r.Calls, Out: r.Out}
	}
	m := &scraped{addr: o.metrics, pause: listenAgain, log: log, listen: func() (*metrics.Server, error) {
		return metrics.Listen(o.metrics, metrics.Source{Look: look, Label: ctl.label, Dir: ctl.server.Dir, Version: version()}, log)
	}}
	if err := m.start(); err != nil {
		ready.note(err.Error() + ": mounted without them; it is tried again every " + listenAgain.String())
	}
	ctl.metrics.Store(m)
	return m.stop
}

// start tries once, and goes on from there until stop.
func (m *scraped) start() error {
	m.quit = make(chan struct{})
	s, err := m.try()
	m.ended.Go(func() { m.keep(s) })
	return err
}

// keep serves, again after a pause where it cannot, or has ended. s is nil at first
// if nothing is served yet.
func (m *scraped) keep(s *metrics.Server) {
	for {
		var ended <-chan struct{}
		var again <-chan time.Time
		if s != nil {
			ended = s.Ended()
		} else {
			again = time.After(m.pause)
		}
		select {
		case <-again:
			s, _ = m.try() // what was wrong is in the status
		case <-ended:
			s = nil
			m.note("", errors.New("metrics: the server ended: the log says why"))
		case <-m.quit:
			if s == nil {
				return
			}
			if err := s.Close(); err != nil {
				m.log.Warn("closing the metrics", "err", err)
			}
			return
		}
	}
}

// stop ends it.
func (m *scraped) stop() {
	close(m.quit)
	m.ended.Wait()
}

func (m *scraped) try() (*metrics.Server, error) {
	s, err := m.listen()
	if err != nil {
		m.note("", err)
		return nil, err
	}
	m.note(s.Addr(), nil)
	return s, nil
}

// note keeps for the status what is so now, and logs what is new.
func (m *scraped) note(addr string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.now
	if err == nil {
		m.now = metricsStatus{Metrics: addr}
		m.log.Info("metrics", "address", addr)
		return
	}
	m.now = metricsStatus{Wanted: m.addr, Err: strings.TrimPrefix(err.Error(), "metrics: "), Taken: errors.Is(err, syscall.EADDRINUSE)}
	if m.now != was {
		m.log.Warn("no metrics", "err", err, "again in", m.pause)
	}
}

// status is what is so now; m is nil if no metrics are wanted.
func (m *scraped) status() metricsStatus {
	if m == nil {
		return metricsStatus{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// advice is what status says of it.
func (s *metricsStatus) advice(dir string) []advice.Advice {
	if s.Err == "" {
		return nil
	}
	do := "anvilfs umount " + advice.Quote(dir) + "   (and mount it with another metrics=ADDRESS:PORT)"
	if s.Taken {
		do = "ss -ltnp sport = :" + s.Wanted[strings.LastIndexByte(s.Wanted, ':')+1:] + "   (who has the port; or mount with another one)"
	}
	return []advice.Advice{{
		Level: advice.Warning, What: "Metrics are not served: " + s.Err + ".",
		Risk: "Prometheus does not see this mount.", Soon: "It is tried again every " + listenAgain.String() + ".", Do: do,
	}}
}
