package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
)

// ratesVersion is the output_version of rates.
const ratesVersion = 1

// rates is what a mount did between two looks at it, per second.
type rates struct {
	OutputVersion int            `json:"output_version"`
	Dir           string         `json:"directory"`
	Label         string         `json:"label"`
	Health        cluster.Health `json:"health"`
	Seconds       float64        `json:"seconds"` // between the looks
	Txg           rate           `json:"txg"`
	Dirty         int64          `json:"dirty_bytes"`
	Limit         int64          `json:"limit_bytes"`
	Out           int64          `json:"calls_out"`
	Nodes         []nodeRates    `json:"nodes"` // worst state first
	Caches        []cacheRates   `json:"caches,omitempty"`
	Calls         []callRate     `json:"calls"` // that took most time first
}

// A rate is one kind of request.
type rate struct {
	Count  float64 `json:"per_second"`
	Bytes  float64 `json:"bytes_per_second"`
	Failed float64 `json:"failed_per_second"`
	MeanUs float64 `json:"mean_us"` // 0: there were none
}

type nodeRates struct {
	Name  string            `json:"name"`
	State cluster.NodeState `json:"state"`
	Lag   uint64            `json:"lag_txgs"`
	Read  rate              `json:"read"`
	Write rate              `json:"write"`
	Flush rate              `json:"flush"`
	Queue int64             `json:"queue"`
}

type callRate struct {
	Name string `json:"call"`
	rate
}

// between compares two looks at one mount. A server that was started anew in
// between counts from zero.
func between(dir string, old, now *mountStatus) rates {
	if old.Server.PID != now.Server.PID || !old.Server.Since.Equal(now.Server.Since) {
		old = &mountStatus{Now: old.Now}
	}
	per := now.Now.Sub(old.Now).Seconds()
	r := rates{
		OutputVersion: ratesVersion, Dir: dir, Label: now.Label, Health: now.Health, Seconds: per,
		Dirty: now.Dirty.Bytes, Limit: now.Dirty.Limit, Out: now.Out,
		Txg: rateOf(per, now.Txg.Committed-old.Txg.Committed, now.Txg.Bytes-old.Txg.Bytes,
			now.Txg.Failed-old.Txg.Failed, now.Txg.TookUs-old.Txg.TookUs),
	}
	before := make(map[string]*cluster.IOStatus)
	for i := range old.Nodes {
		before[old.Nodes[i].Name] = &old.Nodes[i].IO
	}
	for i := range now.Nodes {
		n := &now.Nodes[i]
		io := before[n.Name]
		if io == nil {
			io = new(cluster.IOStatus)
		}
		r.Nodes = append(r.Nodes, nodeRates{
			Name: n.Name, State: n.State, Lag: n.Lag, Queue: n.IO.Queue,
			Read: rateOfRequests(per, &io.Read, &n.IO.Read), Write: rateOfRequests(per, &io.Write, &n.IO.Write),
			Flush: rateOfRequests(per, &io.Flush, &n.IO.Flush),
		})
	}
	r.Caches = ratesOfCaches(per, old.Caches, now.Caches)
	r.Calls = callRates(per, old.Calls, now.Calls)
	return r
}

func callRates(per float64, old, now []fs.CallReport) []callRate {
	before := make(map[string]fs.CallReport)
	for _, c := range old {
		before[c.Name] = c
	}
	list := []callRate{}
	for _, c := range now {
		o := before[c.Name]
		if n := c.Count - o.Count; n > 0 {
			list = append(list, callRate{c.Name, rateOf(per, n, c.Bytes-o.Bytes, c.Failed-o.Failed, c.TookUs-o.TookUs)})
		}
	}
	slices.SortStableFunc(list, func(a, b callRate) int { return cmp.Compare(b.Count*b.MeanUs, a.Count*a.MeanUs) })
	return list
}

func rateOfRequests(per float64, old, now *cluster.RequestStatus) rate {
	return rateOf(per, now.Count-old.Count, now.Bytes-old.Bytes, now.Failed-old.Failed, now.TookUs-old.TookUs)
}

func rateOf(per float64, count, bytes, failed uint64, tookUs int64) rate {
	if per <= 0 {
		return rate{}
	}
	r := rate{Count: float64(count) / per, Bytes: float64(bytes) / per, Failed: float64(failed) / per}
	if count > 0 {
		r.MeanUs = float64(tookUs) / float64(count)
	}
	return r
}

// mean prints the mean time of a request.
func (r *rate) mean() string {
	if r.MeanUs <= 0 {
		return "-"
	}
	d := time.Duration(r.MeanUs * float64(time.Microsecond))
	if d < time.Millisecond {
		return d.Round(time.Microsecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
