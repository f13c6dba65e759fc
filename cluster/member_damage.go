package cluster

import (
	"errors"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
)

// A txg that meets a table which cannot be read, or breaks rules under a good
// code, meets it again each time the member is opened anew and fed. Its device
// works: it is copied anew from the root, which needs no table of the old tree.

// Damages reports whether err is about the tree and not about the device.
func (m *Media) Damages(err error) bool {
	var where *chain.NodeError
	return errors.As(err, &where) && m.vol.Failed() == nil && m.vol.Probe() == nil
}

// damaged ends the node's refusal to go on if all that is wrong with it is its
// tree: from then on it says of itself that it is tainted.
func (c *conn) damaged(now time.Duration) (core.Durable, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.spoilt || c.closed || c.paused {
		return core.Durable{}, false
	}
	c.spoilt = false
	d := c.node.State()
	d.Flags |= core.Tainted
	c.node.Step(now, core.Reset{State: d})
	return d, true
}
