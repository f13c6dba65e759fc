package cluster

import (
	"testing"

	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A batch that comes while the primary ends a change of members, as it does by
// itself after a crash half way, waited for ever.
func TestBatchDuringAChangeOfMembers(t *testing.T) {
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	untilEqual(t, e)
	r := &request{done: make(chan struct{})}
	e.ask(func() {
		members := e.primary.Charter().Config.Clone().Members
		members[2].Role = ondisk.PFSSlave
		e.step(core.Reconfigure{Members: members})
		r.b = file(e.primary.NextT(), 77, "x")
		r.manifest = Manifest(r.b)
		e.request = r
		e.submit()
		if r.sent != nil {
			t.Error("the batch did not have to wait")
		}
	})
	select {
	case <-r.done:
	case <-c.ctx.Done():
		t.Fatal("the batch is not committed")
	}
}
