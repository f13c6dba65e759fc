package scrub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
)

// laneTries is how often a step that fails is made again.
const laneTries = 5

// Why a lane ends early, but for what leads to files; docs/operations.md has a row for
// each.
var (
	errNotInSync = errors.New("not in sync")
	errDevice    = errors.New("the device does not answer")
	errGone      = errors.New("the device is gone")
)

// lane verifies one node. place is the lane's until the job reads its report.
func (j *job) lane(ctx context.Context, name string, place *Place) {
	gone, tries := time.Duration(0), 0
	for j.await(ctx) == nil {
		n, ok := j.node(j.called(name, place))
		if !ok {
			if st := j.peers.Status(); left(&st, place.Node) {
				j.drop(name, place)
				return
			}
			if gone += j.o.pause; gone > j.o.patience {
				j.endLane(place, errNotInSync)
				return
			}
			wait(ctx, j.o.pause)
			continue
		}
		gone = 0
		start := time.Now()
		work := *place
		bad, blocks, err := work.step(ctx, n)
		bad, err = j.there(ctx, n.Name, bad, err)
		took := time.Since(start)
		j.repair(ctx, place, bad)
		if ctx.Err() != nil {
			return // in the middle of what was found, perhaps: the step is made again
		}
		j.stepped(place, &work, blocks, took)
		switch {
		case work.Done:
			return
		case err == nil:
			tries = 0
			d := rest(time.Since(start), j.tranquility(), j.busy())
			wait(ctx, d)
			j.rested(place, d)
		case errors.Is(err, errDevice), errors.Is(err, errGone) && tries == laneTries:
			j.endLane(place, err)
			return
		case tries == laneTries:
			j.endLane(place, fmt.Errorf("what leads to its files cannot be read: %w", err))
			return
		default: // closed, gone, or its tables changed hands: look again
			tries++
			place.failed = 0
			wait(ctx, j.o.pause)
		}
	}
}

// there leaves out of what a step found bad what the device did not give, if that is
// gone by now: nothing is known of it. The pool learns it, too, since for long nobody
// else may read or write there.
func (j *job) there(ctx context.Context, name string, bad []finding, err error) ([]finding, error) {
	if err == nil && !slices.ContainsFunc(bad, finding.silent) || ctx.Err() != nil {
		return bad, err
	}
	gone := j.peers.Gone(name)
	if gone == nil {
		return bad, err
	}
	return slices.DeleteFunc(bad, finding.silent), fmt.Errorf("%w: %w", errGone, gone)
}

// called is what the member of a lane is called now, and was name when the scrub
// began: since then its device may have got another name, or one more device.
func (j *job) called(name string, place *Place) string {
	for _, n := range j.peers.Status().Nodes {
		if place.Node != "" && n.Fsid == place.Node {
			name = n.Name
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	place.Report.Node, place.Report.ID = name, place.Node
	return name
}

func (j *job) node(name string) (cluster.ScrubNode, bool) {
	nodes := j.peers.ScrubNodes()
	i := slices.IndexFunc(nodes, func(n cluster.ScrubNode) bool { return n.Name == name })
	if i < 0 {
		return cluster.ScrubNode{}, false
	}
	return nodes[i], true
}

// stepped takes over what a step did, once what it found bad is repaired or told of:
// a scrub that goes on from here does not come back to that.
func (j *job) stepped(place, work *Place, blocks int64, took time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	work.Bad, work.Report.Bad = place.Bad, place.Report.Bad
	*place = *work
	j.rep.Blocks += blocks
	place.Worked += took
	if time.Since(j.saved) > saveEvery {
		j.saved = time.Now()
		j.saveLocked()
	}
}

func (j *job) rested(place *Place, d time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	place.Rested += d
}

func (j *job) endLane(place *Place, why error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	place.Report.Err, place.seen = why.Error(), nil
}
