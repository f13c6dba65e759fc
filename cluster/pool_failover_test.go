package cluster

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// faultyDev fails or delays reads on wish.
type faultyDev struct {
	*memdev.Device
	mu    sync.Mutex
	err   error
	delay chan struct{} // reads wait for its end
}

func (d *faultyDev) ReadAt(b []byte, off int64) (int, error) {
	d.mu.Lock()
	err, delay := d.err, d.delay
	d.mu.Unlock()
	if delay != nil {
		<-delay
	}
	if err != nil {
		return 0, err
	}
	return d.Device.ReadAt(b, off)
}

func (d *faultyDev) set(err error, delay chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err, d.delay = err, delay
}

func TestPoolFailover(t *testing.T) {
	good := formatted(t, 256<<20)
	bad := &faultyDev{Device: good.Clone()}
	p, e := openFake(t, Options{}, bad, good)
	f := makeFile(t, p, 1, "f", ondisk.ObjFile)
	data := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	write(t, p, f, 0, data)
	mustSync(t, p)
	bad.set(io.ErrUnexpectedEOF, nil)
	if got := readAll(t, p, f, len(data)); !bytes.Equal(got, data) {
		t.Error("wrong data from the second node")
	}
	if len(e.reports) == 0 || !errors.Is(e.reports[0], io.ErrUnexpectedEOF) {
		t.Errorf("reports: %v", e.reports)
	}
	delay := make(chan struct{})
	bad.set(nil, delay)
	start := time.Now()
	for range 3 {
		if got := readAll(t, p, f, len(data)); !bytes.Equal(got, data) {
			t.Error("wrong data while the first node hangs")
		}
	}
	if d := time.Since(start); d > 5*hedgeLeast {
		t.Errorf("three reads took %v while a node hung", d)
	}
	bad.set(nil, nil)
	close(delay)
	closePool(t, p)
}

func TestPoolNoViews(t *testing.T) {
	p, e := openFake(t, Options{}, formatted(t, 256<<20))
	defer closePool(t, p)
	e.set(func() { e.noViews = true })
	p.refresh()
	done := make(chan error)
	go func() {
		_, _, err := p.Lookup(bg, 1, "x")
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("answered without a node: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	e.set(func() { e.noViews = false })
	if err := <-done; err != nil {
		t.Error(err)
	}
}
