package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/anvilfs/anvilfs/chain"
)

// levelFor is how long txgs are not logged after someone asked for views at a
// position: once those who lag are level, they stay so.
const levelFor = 2 * time.Second

// mayLog reports whether txgs may stay in the logs of the members for a
// while. While a member is copied, or copies are compared, the trees must be
// where the positions are.
func (e *engine) mayLog() bool {
	if e.now() < time.Duration(e.levelBy.Load()) {
		return false
	}
	for _, m := range e.members {
		if m.hold != nil {
			return false
		}
	}
	return true
}

// wantLevel asks for views that are where their members are: soon, and as long
// as it is asked for again and again.
func (e *engine) wantLevel() {
	e.levelBy.Store(int64(e.now() + levelFor))
	for _, v := range e.attached() {
		if c := v.conn; !e.o.ReadOnly && v.readable && c.shownAt() != c.position() {
			e.level(c)
		}
	}
}

// level brings the log of a member into its tree, in the background.
func (e *engine) level(c *conn) {
	if c.leveling.Swap(true) {
		return
	}
	e.tasks.Go(func() {
		defer c.leveling.Store(false)
		err := c.level(e.ctx)
		for _, known := range []error{context.Canceled, chain.ErrClosed, chain.ErrVolumeFailed} { // the last is looked for
			if errors.Is(err, known) {
				return
			}
		}
		if err != nil {
			e.log.Warn("the intent log could not be brought into the tree", "member", c.name, "err", err)
		}
	})
}
