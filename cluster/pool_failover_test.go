package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
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

func TestPoolFailover(t *testing.T) { synctest.Test(t, failover) }

// failover is in a bubble, where a machine that is slow is no node that is.
func failover(t *testing.T) {
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

// A slowDev takes its time for each read.
type slowDev struct {
	ondisk.Device
	takes atomic.Int64 // ns
}

func (d *slowDev) ReadAt(b []byte, off int64) (int, error) {
	<-time.After(time.Duration(d.takes.Load()))
	return d.Device.ReadAt(b, off)
}

// The first node is slow from some moment on, but not late: however long that goes
// on, its times are not taken for what a read takes, and the next one is asked.
func TestPoolSlowNodeStaysSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := formatted(t, 256<<20)
		slow := &slowDev{Device: good.Clone()}
		p, _ := openFake(t, Options{}, slow, good)
		f := makeFile(t, p, 1, "f", ondisk.ObjFile)
		data := bytes.Repeat([]byte("0123456789abcdef"), 2000)
		write(t, p, f, 0, data)
		mustSync(t, p)
		slow.takes.Store(int64(2*hedgeLeast + hedgeLeast/2))
		for i := range 4 * hedgeSamples {
			start := time.Now()
			if got := readAll(t, p, f, len(data)); !bytes.Equal(got, data) {
				t.Error("wrong data")
			}
			if d := time.Since(start); d > 2*hedgeLeast {
				t.Errorf("read %d took %v", i, d)
				break
			}
			<-time.After(time.Second) // the slow node answers, too
		}
		closePool(t, p)
	})
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

// All devices vanish at once, until they are opened again. A mount that is to wait for a quorum lets its
// readers wait too, and does not fail those that come before it found out.
func TestPoolWaitsForGoneDevices(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	f := makeFile(t, p, ondisk.InumRoot, "f", ondisk.ObjFile)
	data := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	write(t, p, f, 0, data)
	for i := range 40 {
		makeFile(t, p, ondisk.InumRoot, fmt.Sprint("file", i), ondisk.ObjFile)
	}
	mustSync(t, p)
	check(t, p.Close(c.ctx))
	p = c.pool(Options{}) // nothing is in its caches
	untilEqual(t, p.engine.(*engine))
	for i := range c.fault {
		c.fault[i].Add(faultdev.Rule{Do: faultdev.Fail, Times: faultdev.Always})
	}
	got := make(chan error, 2)
	read := func() error {
		buf := make([]byte, len(data))
		err := p.ReadData(c.ctx, f, 0, buf)
		if err == nil && !bytes.Equal(buf, data) {
			err = errors.New("other data")
		}
		return err
	}
	look := func() error {
		d, ok, err := p.Lookup(c.ctx, ondisk.InumRoot, "f")
		if err == nil && (!ok || d.Inum != f) {
			err = errors.New("not found")
		}
		return err
	}
	go func() { got <- read() }()
	go func() { got <- look() }()
	select {
	case err := <-got:
		t.Fatalf("a reader did not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	check(t, <-got)
	check(t, <-got)
	check(t, p.Close(c.ctx))
}

// Every device fails one read, as a bus does that is reset. What is over when
// the last one failed is no error of the call.
func TestPoolReadsAgain(t *testing.T) {
	c := newTestCluster(t, 3)
	p := c.pool(Options{})
	f := makeFile(t, p, ondisk.InumRoot, "f", ondisk.ObjFile)
	data := bytes.Repeat([]byte("0123456789abcdef"), 2000)
	write(t, p, f, 0, data)
	mustSync(t, p)
	untilEqual(t, p.engine.(*engine))
	p.refresh()
	for i := range c.fault {
		c.fault[i].Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Read})
	}
	if got := readAll(t, p, f, len(data)); !bytes.Equal(got, data) {
		t.Error("other data")
	}
	for i := range c.fault {
		if len(c.fault[i].Log()) == 0 {
			t.Errorf("%s was not asked", diskName(i))
		}
	}
	check(t, p.Close(c.ctx))
}
