package metered

import (
	"container/list"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/histogram"
)

// A Meter counts. The zero value is ready.
type Meter struct {
	read, write, flush, discard op

	mu  sync.Mutex // guards what follows
	out list.List  // of time.Time: when the requests that are out began, the oldest first
}

type op struct {
	bytes, failed atomic.Uint64
	took          histogram.Histogram
}

// Wrap returns dev with its requests counted.
func (m *Meter) Wrap(dev ondisk.Device) ondisk.Device {
	d := &device{Device: dev}
	d.m.Store(m)
	return d
}

// Take counts from now on what dev, which another meter wrapped, is asked for.
func (m *Meter) Take(dev ondisk.Device) { dev.(*device).m.Store(m) }

// A Report is a meter at one instant: plain values.
type Report struct {
	Read, Write, Flush, Discard Requests
	Queue                       int64 // requests that are out
}

// Requests are those of one kind that have returned.
type Requests struct {
	Bytes  uint64 // transferred; 0 for flushes
	Failed uint64
	Took   histogram.Snapshot // all, those that failed included
}

// Report copies the numbers.
func (m *Meter) Report() Report {
	return Report{
		Read: m.read.report(), Write: m.write.report(), Flush: m.flush.report(), Discard: m.discard.report(),
		Queue: m.queue(),
	}
}

func (m *Meter) queue() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int64(m.out.Len())
}

// Oldest is how long the oldest request that is out has been out; 0 without one.
func (m *Meter) Oldest() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := m.out.Front()
	if first == nil {
		return 0
	}
	return time.Since(first.Value.(time.Time))
}

// enter notes that a request goes out now.
func (m *Meter) enter() (*list.Element, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	began := time.Now()
	return m.out.PushBack(began), began
}

func (m *Meter) leave(e *list.Element) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.out.Remove(e)
}

func (o *op) report() Requests {
	return Requests{Bytes: o.bytes.Load(), Failed: o.failed.Load(), Took: o.took.Snapshot()}
}

// measure counts one request around run, which returns the bytes it moved.
func (m *Meter) measure(o *op, run func() (int64, error)) {
	e, began := m.enter()
	n, err := run()
	o.took.Add(time.Since(began))
	m.leave(e)
	o.bytes.Add(uint64(max(n, 0)))
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errors.ErrUnsupported) {
		o.failed.Add(1)
	}
}

// A device is another one with a meter.
type device struct {
	ondisk.Device
	m atomic.Pointer[Meter]
}

func (d *device) ReadAt(p []byte, off int64) (n int, err error) {
	m := d.m.Load()
	m.measure(&m.read, func() (int64, error) {
		n, err = d.Device.ReadAt(p, off)
		return int64(n), err
	})
	return n, err
}

func (d *device) WriteAt(p []byte, off int64) (n int, err error) {
	m := d.m.Load()
	m.measure(&m.write, func() (int64, error) {
		n, err = d.Device.WriteAt(p, off)
		return int64(n), err
	})
	return n, err
}

func (d *device) Flush() (err error) {
	m := d.m.Load()
	m.measure(&m.flush, func() (int64, error) {
		err = d.Device.Flush()
		return 0, err
	})
	return err
}

func (d *device) Discard(off, n int64) (err error) {
	m := d.m.Load()
	m.measure(&m.discard, func() (int64, error) {
		if err = d.Device.Discard(off, n); err != nil {
			return 0, err
		}
		return n, nil
	})
	return err
}
