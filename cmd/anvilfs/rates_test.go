package main

import (
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
)

func at(second int, reads uint64) *mountStatus {
	st := &mountStatus{Now: time.Unix(int64(second), 0), Server: serverStatus{PID: 7}}
	st.Label, st.Health = "HOME", cluster.PoolHealthy
	st.Txg = cluster.TxgStatus{Committed: 10 * reads, TookUs: 20000 * int64(reads)}
	st.Nodes = []cluster.NodeStatus{{Name: "a", State: cluster.NodeInSync, IO: cluster.IOStatus{
		Read: cluster.RequestStatus{Count: reads, Bytes: 4096 * reads, TookUs: 100 * int64(reads)}, Queue: 3,
	}}}
	st.Calls = []fs.CallReport{{Name: "getattr", Count: 5}, {Name: "read", Count: reads, TookUs: 50 * int64(reads), Failed: reads / 2}}
	return st
}

func TestRates(t *testing.T) {
	r := between("/mnt", at(10, 100), at(12, 300))
	if got := r.Nodes[0].Read; got.Count != 100 || got.Bytes != 409600 || got.MeanUs != 100 || got.Failed != 0 {
		t.Errorf("reads: %+v", got)
	}
	if r.Nodes[0].Queue != 3 || r.Txg.Count != 1000 || r.Txg.MeanUs != 2000 {
		t.Errorf("%+v", r)
	}
	if len(r.Calls) != 1 || r.Calls[0].Name != "read" || r.Calls[0].Count != 100 || r.Calls[0].Failed != 50 {
		t.Errorf("calls: %+v", r.Calls)
	}
	var b strings.Builder
	if err := printRates(&b, []rates{r}, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"HOME on /mnt  healthy", "400 KiB", "100µs", "1000/s"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// A server that was started anew must not give numbers below zero.
func TestRatesOfANewServer(t *testing.T) {
	old, now := at(10, 1000), at(12, 10)
	now.Server.PID = 8
	if r := between("/mnt", old, now); r.Nodes[0].Read.Count != 5 || r.Calls[0].Count > 100 {
		t.Errorf("%+v", r)
	}
}
