package metered

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/histogram"
)

// A Meter counts. The zero value is ready.
type Meter struct {
	read, write, flush, discard op
	queue                       atomic.Int64
}

type op struct {
	bytes, failed atomic.Uint64
	took          histogram.Histogram
}

// Wrap returns dev with its requests counted.
func (m *Meter) Wrap(dev ondisk.Device) ondisk.Device { return &device{dev, m} }

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
		Queue: m.queue.Load(),
	}
}

func (o *op) report() Requests {
	return Requests{Bytes: o.bytes.Load(), Failed: o.failed.Load(), Took: o.took.Snapshot()}
}

// measure counts one request around run, which returns the bytes it moved.
func (m *Meter) measure(o *op, run func() (int64, error)) {
	m.queue.Add(1)
	began := time.Now()
	n, err := run()
	o.took.Add(time.Since(began))
	m.queue.Add(-1)
	o.bytes.Add(uint64(max(n, 0)))
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errors.ErrUnsupported) {
		o.failed.Add(1)
	}
}

// A device is another one with a meter.
type device struct {
	ondisk.Device
	m *Meter
}

func (d *device) ReadAt(p []byte, off int64) (n int, err error) {
	d.m.measure(&d.m.read, func() (int64, error) {
		n, err = d.Device.ReadAt(p, off)
		return int64(n), err
	})
	return n, err
}

func (d *device) WriteAt(p []byte, off int64) (n int, err error) {
	d.m.measure(&d.m.write, func() (int64, error) {
		n, err = d.Device.WriteAt(p, off)
		return int64(n), err
	})
	return n, err
}

func (d *device) Flush() (err error) {
	d.m.measure(&d.m.flush, func() (int64, error) {
		err = d.Device.Flush()
		return 0, err
	})
	return err
}

func (d *device) Discard(off, n int64) (err error) {
	d.m.measure(&d.m.discard, func() (int64, error) {
		if err = d.Device.Discard(off, n); err != nil {
			return 0, err
		}
		return n, nil
	})
	return err
}
