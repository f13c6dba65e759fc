package metrics

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk/histogram"
	"github.com/anvilfs/anvilfs/sync/ledger"
	"github.com/anvilfs/anvilfs/sync/scrub"
)

func source() Source {
	var h histogram.Histogram
	h.Add(3 * time.Millisecond)
	h.Add(time.Minute)
	took := h.Snapshot()
	return Source{Label: "HOME", Dir: "/mnt", Version: "v1", Look: func() Look {
		return Look{
			Copies: advice.Integrity{Errors: &ledger.Report{Bad: 6}, Scrub: &scrub.Report{Phase: scrub.Done, Bytes: 500, Unrepaired: 2, Ended: time.Unix(2000, 0)}},
			Status: cluster.Status{
				Health: cluster.PoolDegraded, Quorum: cluster.QuorumStatus{Held: true, Masters: 3, InSync: 2, Need: 2},
				Space: cluster.SpaceStatus{Total: 1000, Avail: 500}, Dirty: cluster.DirtyStatus{Bytes: 77, Logged: 33, Limit: 100},
				Txg: cluster.TxgStatus{Took: took, Bytes: 4096},
				Nodes: []cluster.NodeStatus{
					{Name: "b", Role: "master", State: cluster.NodeFailed, Lag: 5, Bad: 3, Repaired: 2, Since: time.Unix(1000, 0)},
					{Name: "a", Role: "master", State: cluster.NodeInSync, Focus: true, IO: cluster.IOStatus{
						Queue: 2, Write: cluster.RequestStatus{Bytes: 8192, Took: took}}},
				},
				Caches: []cluster.CacheStatus{{Name: "f", State: cluster.CacheOn, Size: 900, Used: 300, Hits: 8, Misses: 5, Late: 1, FilledBytes: 12}},
			},
			Trees: []advice.Tree{{Path: "/a", Percent: 100, Quota: fs.Quota{Bytes: 7, MaxBytes: 7, Inodes: 3}}, {Path: "/b", Quota: fs.Quota{MaxInodes: 9}},
				{Path: "/\xff", Quota: fs.Quota{Inum: 8}}, {Path: "/\xfe", Quota: fs.Quota{Inum: 9, Inodes: 44}}},
			Calls: []fs.CallReport{{Name: "write", Bytes: 512, Failed: 1, Took: took}}, Out: 4,
		}
	}}
}

func TestSeries(t *testing.T) {
	problems, err := testutil.GatherAndLint(registry(source()))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	s, err := Listen("127.0.0.1:0", source(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	text := get(t, "http://"+s.Addr()+"/metrics", "", http.StatusOK)
	const common = `filesystem="HOME",mount="/mnt"`
	for _, want := range []string{
		`anvilfs_info{` + common + `,version="v1"} 1`,
		`anvilfs_health{` + common + `,state="degraded"} 1`,
		`anvilfs_health{` + common + `,state="healthy"} 0`,
		`anvilfs_masters_in_sync{` + common + `} 2`,
		`anvilfs_dirty_bytes{` + common + `} 77`,
		`anvilfs_logged_bytes{` + common + `} 33`,
		`anvilfs_space_bytes{filesystem="HOME",kind="available",mount="/mnt"} 500`,
		`anvilfs_node_state{` + common + `,node="b",role="master",state="failed"} 1`,
		`anvilfs_node_state{` + common + `,node="b",role="master",state="in-sync"} 0`,
		`anvilfs_node_lag_txgs{` + common + `,node="b"} 5`,
		`anvilfs_node_bad_chains_total{` + common + `,node="b"} 3`,
		`anvilfs_node_repaired_chains_total{` + common + `,node="b"} 2`,
		`anvilfs_node_queue{` + common + `,node="a"} 2`,
		`anvilfs_node_request_bytes_total{` + common + `,node="a",op="write"} 8192`,
		`anvilfs_node_request_duration_seconds_bucket{` + common + `,node="a",op="write",le="0.005"} 1`,
		`anvilfs_txg_duration_seconds_bucket{` + common + `,le="30"} 1`,
		`anvilfs_txg_duration_seconds_bucket{` + common + `,le="+Inf"} 2`,
		`anvilfs_txg_duration_seconds_sum{` + common + `} 60.003`,
		`anvilfs_call_failed_total{call="write",` + common + `} 1`,
		`anvilfs_call_duration_seconds_count{call="write",` + common + `} 2`,
		`anvilfs_cache_state{cache="f",` + common + `,state="cache-on"} 1`,
		`anvilfs_cache_state{cache="f",` + common + `,state="cache-hung"} 0`,
		`anvilfs_cache_size_bytes{cache="f",filesystem="HOME",kind="used",mount="/mnt"} 300`,
		`anvilfs_cache_hits_total{cache="f",` + common + `} 8`,
		`anvilfs_cache_misses_total{cache="f",` + common + `,why="all"} 5`,
		`anvilfs_cache_misses_total{cache="f",` + common + `,why="late"} 1`,
		`anvilfs_cache_filled_bytes_total{cache="f",` + common + `} 12`,
		`anvilfs_calls_out{` + common + `} 4`,
		`anvilfs_errors_unrepaired{` + common + `} 6`,
		`anvilfs_quota_bytes{filesystem="HOME",kind="used",mount="/mnt",path="/a"} 7`,
		`anvilfs_quota_bytes{filesystem="HOME",kind="limit",mount="/mnt",path="/a"} 7`,
		`anvilfs_quota_inodes{filesystem="HOME",kind="limit",mount="/mnt",path="/b"} 9`,
		`anvilfs_quota_inodes{filesystem="HOME",kind="used",mount="/mnt",path="/` + "\uFFFD" + ` (inode 9)"} 44`,
		`anvilfs_quota_full_trees{` + common + `} 1`,
		`anvilfs_scrub_phase{` + common + `,phase="done"} 1`,
		`anvilfs_scrub_phase{` + common + `,phase="verifying"} 0`,
		`anvilfs_scrub_unrepaired{` + common + `} 2`,
		`anvilfs_scrub_ended_timestamp_seconds{` + common + `} 2000`,
		`go_goroutines `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, d := range series {
		if !strings.Contains(text, "# TYPE anvilfs_"+d.name+" ") {
			t.Errorf("%s is named, and never told", d.name)
		}
	}
	get(t, "http://"+s.Addr()+"/other", "", http.StatusNotFound)
	get(t, "http://"+s.Addr()+"/metrics", "evil.example.org", http.StatusForbidden)
	get(t, "http://"+s.Addr()+"/metrics", "localhost:1", http.StatusOK)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := http.Get("http://" + s.Addr() + "/metrics"); err == nil {
		t.Error("it still answers after Close")
	}
}

// Symptom: a scrape ended the process that serves the mount: a device, or the mount
// point, had a name that is no UTF-8.
func TestOddNames(t *testing.T) {
	src := source()
	look := src.Look
	src.Dir = "/caf\xe9"
	src.Look = func() Look {
		l := look()
		l.Status.Nodes[0].Name, l.Status.Nodes[1].Name, l.Status.Caches[0].Name = "\xfe.img", "\xff.img", "c\xff"
		return l
	}
	families, err := registry(src).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "anvilfs_node_lag_txgs" {
			continue
		}
		for i, want := range []string{`\xfe.img`, `\xff.img`} {
			labels := make(map[string]string)
			for _, l := range f.Metric[i].Label {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["node"] != want || labels["mount"] != `/caf\xe9` {
				t.Errorf("%v, want node %s", labels, want)
			}
		}
		return
	}
	t.Error("nothing is said of nodes")
}

func get(t *testing.T, url, host string, want int) string {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		t.Errorf("%s as %q: %v %v", url, host, resp.Status, err)
	}
	return string(b)
}

func TestCheckAddress(t *testing.T) {
	for _, c := range []struct {
		addr   string
		public bool
		ok     bool
	}{
		{"127.0.0.1:9310", false, true}, {"[::1]:9310", false, true}, {"localhost:0", false, true}, {"127.9.9.9:1", false, true},
		{":9310", false, false}, {"0.0.0.0:9310", false, false}, {"192.0.2.1:9310", false, false}, {"host:9310", false, false},
		{"9310", true, false}, {"127.0.0.1", false, false}, {"127.0.0.1:", false, false},
		{":9310", true, true}, {"192.0.2.1:9310", true, true}, {"host.example:9310", true, true},
		{"127.0.0.1:99999", false, false}, {"127.0.0.1:-1", false, false}, {"127.0.0.1:http", false, false},
		{"localhost:65536", false, false}, {":99999", true, false}, {"300.0.0.1:9310", true, false}, {"[::1::2]:9310", true, false},
	} {
		t.Run(fmt.Sprint(c.addr, c.public), func(t *testing.T) {
			if err := CheckAddress(c.addr, c.public); (err == nil) != c.ok {
				t.Error(err)
			}
		})
	}
}
