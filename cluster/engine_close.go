package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
)

// close ends the engine and closes the members. A member whose request does
// not return is left open when ctx or the deadline ends.
func (e *engine) close(ctx context.Context) error {
	e.sealLast(ctx)
	e.linger(ctx)
	e.stop()
	var conns []*conn
	part := func() {
		for _, m := range e.members {
			if m.conn != nil {
				conns = append(conns, m.conn)
				m.conn = nil
			}
		}
	}
	if !e.ask(func() {
		part()
		e.qmu.Lock()
		close(e.quit)
		e.qmu.Unlock()
	}) {
		return nil
	}
	<-e.ended
	part() // what was posted before may have taken one in
	e.mu.Lock()
	e.pub.members, e.pub.closed = nil, true
	e.announce()
	e.mu.Unlock()
	return e.closeAll(ctx, conns)
}

// closeAll names who does not close in time.
func (e *engine) closeAll(ctx context.Context, conns []*conn) error {
	type end struct {
		name string
		err  error
	}
	ends := make(chan end, len(conns)+1)
	open := map[string]bool{}
	for _, c := range conns {
		open[c.name] = true
		go func() {
			err := c.close()
			if err != nil {
				err = fmt.Errorf("closing %s: %w", c.name, err)
			}
			ends <- end{c.name, err}
		}()
	}
	go func() { e.tasks.Wait(); ends <- end{} }()
	limit := time.NewTimer(e.deadline)
	defer limit.Stop()
	var all error
	for range len(conns) + 1 {
		select {
		case end := <-ends:
			delete(open, end.name)
			all = errors.Join(all, end.err)
		case <-limit.C:
			names := strings.Join(slices.Sorted(maps.Keys(open)), ", ")
			return errors.Join(all, fmt.Errorf("%s did not close within %v", cmp.Or(names, "a member"), e.deadline))
		case <-ctx.Done():
			return errors.Join(all, ctx.Err())
		}
	}
	return all
}

// linger waits until the members that are fed have the last committed txg, so
// that an unmount leaves them equal: what one lacks, the next mount would have
// to look for. One that does not get on is given up by its deadline.
func (e *engine) linger(ctx context.Context) {
	limit := time.NewTimer(2 * e.deadline)
	defer limit.Stop()
	for {
		late := false
		if e.o.ReadOnly || !e.ask(func() { late = e.late() }) || !late {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// late reports whether a member that is fed lacks the last committed txg.
func (e *engine) late() bool {
	if e.primary.Phase() != core.Serving {
		return false
	}
	for _, m := range e.members {
		fed := m.conn != nil && m.hold == nil && m.flags == 0 && (m.state == NodeInSync || m.state == NodeBehind)
		if fed && m.conn.position().T < e.primary.Committed().T {
			return true
		}
	}
	return false
}
