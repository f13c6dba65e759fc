package metrics

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk/histogram"
	"github.com/anvilfs/anvilfs/sync/scrub"
)

// A Look is a mount at one instant.
type Look struct {
	Status cluster.Status
	Copies advice.Integrity
	Trees  []advice.Tree
	Calls  []fs.CallReport
	Out    int64 // calls not answered yet
}

// A Source is where looks come from, and what they are about.
type Source struct {
	Look    func() Look
	Label   string
	Dir     string
	Version string
}

// A collector turns a look into series.
type collector struct {
	src   Source
	descs map[string]*prometheus.Desc
	order []*prometheus.Desc
}

// A shot is one collection under way.
type shot struct {
	c  *collector
	ch chan<- prometheus.Metric
}

func newCollector(src Source) *collector {
	c := &collector{src: src, descs: make(map[string]*prometheus.Desc)}
	common := prometheus.Labels{"filesystem": labelOf(src.Label), "mount": labelOf(src.Dir)}
	for _, s := range series {
		d := prometheus.NewDesc("anvilfs_"+s.name, s.help, s.labels, common)
		c.descs[s.name] = d
		c.order = append(c.order, d)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.order {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	look := c.src.Look()
	s := shot{c, ch}
	s.gauge("info", 1, c.src.Version)
	s.mount(&look.Status)
	s.integrity(&look.Copies)
	s.trees(look.Trees)
	for i := range look.Status.Nodes {
		s.node(&look.Status.Nodes[i])
	}
	for i := range look.Status.Caches {
		s.cache(&look.Status.Caches[i])
	}
	for i := range look.Calls {
		r := &look.Calls[i]
		s.histogram("call_duration_seconds", &r.Took, r.Name)
		s.counter("call_failed_total", r.Failed, r.Name)
		if r.Bytes > 0 {
			s.counter("call_bytes_total", r.Bytes, r.Name)
		}
	}
	s.gauge("calls_out", float64(look.Out))
}

// healths and states are those that a series of 0 and 1 is made for.
var (
	healths = []cluster.Health{cluster.PoolHealthy, cluster.PoolDegraded, cluster.PoolReadOnly, cluster.PoolStalled}
	states  = []cluster.NodeState{
		cluster.NodeInSync, cluster.NodeBehind, cluster.NodeResync, cluster.NodeFull, cluster.NodeForeign,
		cluster.NodeTainted, cluster.NodeHung, cluster.NodeFailed, cluster.NodeOffline, cluster.NodeMissing, cluster.NodeReadOnly,
	}
)

func (s *shot) mount(st *cluster.Status) {
	for _, h := range healths {
		s.gauge("health", truth(h == st.Health), string(h))
	}
	s.gauge("quorum_held", truth(st.Quorum.Held))
	s.gauge("masters", float64(st.Quorum.Masters))
	s.gauge("masters_in_sync", float64(st.Quorum.InSync))
	s.gauge("masters_needed", float64(st.Quorum.Need))
	s.gauge("space_bytes", float64(st.Space.Total), "total")
	s.gauge("space_bytes", float64(st.Space.Free), "free")
	s.gauge("space_bytes", float64(st.Space.Avail), "available")
	s.gauge("space_bytes", float64(st.Space.Pending), "pending")
	s.gauge("space_bytes", float64(st.Space.Reserved), "reserved")
	s.gauge("inodes", float64(st.Space.Inodes))
	s.gauge("dirty_bytes", float64(st.Dirty.Bytes))
	s.gauge("logged_bytes", float64(st.Dirty.Logged))
	s.gauge("dirty_limit_bytes", float64(st.Dirty.Limit))
	s.gauge("commit_failing", truth(st.CommitError != ""))
	s.histogram("txg_duration_seconds", &st.Txg.Took)
	s.counter("txg_bytes_total", st.Txg.Bytes)
	s.counter("txg_failed_total", st.Txg.Failed)
}

// phases are those that a series of 0 and 1 is made for.
var phases = []scrub.Phase{scrub.Idle, scrub.Verifying, scrub.Comparing, scrub.Paused, scrub.Done, scrub.Stopped, scrub.Failed}

// integrity is how the copies are looked after; nothing if nobody does.
func (s *shot) integrity(i *advice.Integrity) {
	if e := i.Errors; e != nil {
		s.gauge("errors_unrepaired", float64(e.Bad))
	}
	r := i.Scrub
	if r == nil {
		return
	}
	for _, p := range phases {
		s.gauge("scrub_phase", truth(p == r.Phase), string(p))
	}
	s.gauge("scrub_verified_bytes", float64(r.Bytes))
	s.gauge("scrub_expected_bytes", float64(r.BytesTotal))
	s.gauge("scrub_bad_blocks", float64(r.Bad))
	s.gauge("scrub_differing_leaves", float64(r.Differing))
	s.gauge("scrub_unrepaired", float64(r.Unrepaired))
	if !r.Ended.IsZero() {
		s.gauge("scrub_ended_timestamp_seconds", float64(r.Ended.UnixMilli())/1000)
	}
}

// treesMax is how many directory trees have series of their own.
const treesMax = 1000

// trees are the accounts of directories; of very many, the fullest.
func (s *shot) trees(list []advice.Tree) {
	full := 0
	for i := range list {
		if list[i].Fill() == advice.Full {
			full++
		}
	}
	s.gauge("quota_full_trees", float64(full))
	if len(list) > treesMax {
		list = slices.Clone(list)
		slices.SortStableFunc(list, func(a, b advice.Tree) int { return cmp.Compare(b.Percent, a.Percent) })
		list = list[:treesMax]
	}
	told := make(map[string]bool)
	for i := range list {
		t := &list[i]
		// Names of files are any bytes, labels are UTF-8 and tell series apart.
		name := strings.ToValidUTF8(t.Path, "\uFFFD")
		if told[name] {
			name = fmt.Sprintf("%s (inode %d)", name, t.Inum)
		}
		told[name] = true
		s.gauge("quota_bytes", float64(t.Bytes), name, "used")
		s.gauge("quota_inodes", float64(t.Inodes), name, "used")
		if t.MaxBytes > 0 {
			s.gauge("quota_bytes", float64(t.MaxBytes), name, "limit")
		}
		if t.MaxInodes > 0 {
			s.gauge("quota_inodes", float64(t.MaxInodes), name, "limit")
		}
	}
}

func (s *shot) node(n *cluster.NodeStatus) {
	for _, state := range states {
		s.gauge("node_state", truth(state == n.State), n.Name, n.Role, string(state))
	}
	if !n.Since.IsZero() {
		s.gauge("node_state_since_timestamp_seconds", float64(n.Since.UnixMilli())/1000, n.Name)
	}
	s.gauge("node_focus", truth(n.Focus), n.Name)
	s.gauge("node_lag_txgs", float64(n.Lag), n.Name)
	s.gauge("node_queue", float64(n.IO.Queue), n.Name)
	s.gauge("node_space_bytes", float64(n.Total), n.Name, "total")
	s.gauge("node_space_bytes", float64(n.Free), n.Name, "free")
	s.counter("node_bad_chains_total", n.Bad, n.Name)
	s.counter("node_repaired_chains_total", n.Repaired, n.Name)
	for _, r := range []struct {
		op string
		r  *cluster.RequestStatus
	}{{"read", &n.IO.Read}, {"write", &n.IO.Write}, {"flush", &n.IO.Flush}, {"discard", &n.IO.Discard}} {
		s.histogram("node_request_duration_seconds", &r.r.Took, n.Name, r.op)
		s.counter("node_request_failed_total", r.r.Failed, n.Name, r.op)
		if r.op != "flush" {
			s.counter("node_request_bytes_total", r.r.Bytes, n.Name, r.op)
		}
	}
}

func (s *shot) gauge(name string, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(s.c.descs[name], prometheus.GaugeValue, v, labelsOf(labels)...)
}

func (s *shot) counter(name string, v uint64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(s.c.descs[name], prometheus.CounterValue, float64(v), labelsOf(labels)...)
}

func (s *shot) histogram(name string, h *histogram.Snapshot, labels ...string) {
	upTo, total := make(map[float64]uint64, len(histogram.Bounds)), uint64(0)
	for i, bound := range histogram.Bounds {
		total += h.Counts[i]
		upTo[bound.Seconds()] = total
	}
	s.ch <- prometheus.MustNewConstHistogram(s.c.descs[name], h.Count(), h.Sum.Seconds(), upTo, labelsOf(labels)...)
}

// labelsOf are labels that the client takes: it panics at what is no UTF-8, and names
// of devices and directories may be any bytes.
func labelsOf(names []string) []string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = labelOf(name)
	}
	return list
}

func labelOf(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	return advice.Printable(name)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
