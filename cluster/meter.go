package cluster

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/histogram"
	"github.com/anvilfs/anvilfs/ondisk/metered"
)

// IOStatus counts the requests to a node's devices since the mount.
type IOStatus struct {
	Read    RequestStatus `json:"read"`
	Write   RequestStatus `json:"write"`
	Flush   RequestStatus `json:"flush"`
	Discard RequestStatus `json:"discard"`
	Queue   int64         `json:"queue"` // requests that are out
}

// RequestStatus is one kind of request.
type RequestStatus struct {
	Count  uint64             `json:"count"`
	Bytes  uint64             `json:"bytes"`
	Failed uint64             `json:"failed"`
	TookUs int64              `json:"took_us"` // all together
	Took   histogram.Snapshot `json:"-"`       // for the metrics
}

// TxgStatus counts transaction groups since the mount.
type TxgStatus struct {
	Committed uint64             `json:"committed"`
	Failed    uint64             `json:"failed"` // attempts; each is made again
	Bytes     uint64             `json:"bytes"`
	TookUs    int64              `json:"took_us"` // all together, from closing to durable
	LastUs    int64              `json:"last_us"`
	Took      histogram.Snapshot `json:"-"` // for the metrics
}

// metered counts what the devices of a member are asked for.
func (m *member) metered(spec MemberSpec) MemberSpec {
	m.given = spec
	m.name.Store(&spec.Name)
	open := spec.Open
	spec.Open = func(ctx context.Context) ([]ondisk.Device, error) {
		devs, err := open(ctx)
		for i := range devs {
			devs[i] = m.meter.Wrap(devs[i])
		}
		return devs, err
	}
	return spec
}

// ioStatus is zero of a node that was not given: it has no device.
func ioStatus(r *metered.Report) IOStatus {
	if r == nil {
		return IOStatus{}
	}
	return IOStatus{
		Read: requestStatus(&r.Read), Write: requestStatus(&r.Write), Flush: requestStatus(&r.Flush),
		Discard: requestStatus(&r.Discard), Queue: r.Queue,
	}
}

func requestStatus(r *metered.Requests) RequestStatus {
	return RequestStatus{Count: r.Took.Count(), Bytes: r.Bytes, Failed: r.Failed, TookUs: r.Took.Sum.Microseconds(), Took: r.Took}
}

// txgMeter counts the transaction groups of a pool.
type txgMeter struct {
	took          histogram.Histogram
	bytes, failed atomic.Uint64
	last          atomic.Int64 // ns
}

// committed counts a group that became durable; an empty one is none.
func (m *txgMeter) committed(b *chain.Batch, took time.Duration) {
	if len(b.Changes) == 0 {
		return
	}
	m.took.Add(took)
	m.bytes.Add(uint64(batchSize(b)))
	m.last.Store(int64(took))
}

func (m *txgMeter) status() TxgStatus {
	t := m.took.Snapshot()
	return TxgStatus{
		Committed: t.Count(), Failed: m.failed.Load(), Bytes: m.bytes.Load(),
		TookUs: t.Sum.Microseconds(), LastUs: time.Duration(m.last.Load()).Microseconds(), Took: t,
	}
}

// lag is how many txgs lie between a node and the committed state; at least
// that many if they are of different epochs.
func lag(committed, node ondisk.Tid) uint64 {
	switch {
	case node >= committed:
		return 0
	case node.Epoch() == committed.Epoch():
		return uint64(committed.Seq() - node.Seq())
	}
	return uint64(committed.Seq()) + 1
}
