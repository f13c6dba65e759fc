package main

import (
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/cmd/metrics"
)

// Symptom: with metrics= of a port in use the filesystem was mounted without them, and
// one line at the mount, which nobody reads at boot, was all that was said.
func TestMetricsPortTaken(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	addr := other.Addr().String()
	m := &scraped{addr: addr, pause: time.Millisecond, log: logger, listen: func() (*metrics.Server, error) {
		return metrics.Listen(addr, metrics.Source{}, logger)
	}}
	if err := m.start(); err == nil {
		t.Error("a port that is taken was listened on")
	}
	<-time.After(20 * time.Millisecond) // some tries
	st := m.status()
	list := st.advice("/mnt")
	_, port, _ := net.SplitHostPort(addr)
	if len(list) != 1 || list[0].Level != advice.Warning || !strings.Contains(list[0].What, "address already in use") || !strings.Contains(list[0].Do, "ss -ltnp sport = :"+port+" ") {
		t.Errorf("status says %+v", list)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); m.status().Metrics != addr; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the port is free, and nobody listens")
		}
	}
	if st := m.status(); len(st.advice("/mnt")) != 0 {
		t.Errorf("served, and status says %+v", st)
	}
	m.stop()
	if c, err := net.Dial("tcp", addr); err == nil {
		_ = c.Close()
		t.Error("it answers after the unmount")
	}
	if n := strings.Count(log.String(), "no metrics"); n != 1 {
		t.Errorf("said %d times:\n%s", n, log.String())
	}
}

func TestMetricsElsewhere(t *testing.T) {
	st := metricsStatus{Wanted: "192.0.2.1:9310", Err: "listen tcp 192.0.2.1:9310: bind: cannot assign requested address"}
	if list := st.advice("/a b"); len(list) != 1 || !strings.HasPrefix(list[0].Do, "anvilfs umount '/a b' ") {
		t.Errorf("%+v", list)
	}
	if st := (*scraped)(nil).status(); st != (metricsStatus{}) {
		t.Errorf("not wanted: %+v", st)
	}
}
