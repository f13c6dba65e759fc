package matrix

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	resync "github.com/anvilfs/anvilfs/sync"
)

const theSnapshot = "then"

// snapshotted makes a snapshot that all members have, and changes what it has.
func snapshotted(r *run) {
	r.check(r.open(), "mounting")
	r.work(4)
	_, err := r.life.pool.SnapshotCreate(r.life.ctx, theSnapshot, false)
	r.check(err, "snapshot create")
	r.then = maps.Clone(r.model.last())
	r.work(4)
	r.complete()
	r.check(r.close(), "unmounting")
}

// rolledBack is what a rollback makes of the model.
func rolledBack(r *run) {
	r.model.next(func(s map[string]string) {
		clear(s)
		maps.Copy(s, r.then)
	})
}

// rollBack does it under the mount, as the command does.
func rollBack(r *run, l *life) error {
	return l.fs.Exchange(l.ctx, func(func()) (bool, error) {
		_, err := l.pool.SnapshotRollbackSettled(l.ctx, theSnapshot, r.cell.dice(22).IntN(2) == 0, func(err error) {
			r.note("the rollback waits: %v", err)
		})
		return err == nil, err
	}, func(fs.Before) {})
}

// complete waits until every member has the snapshots of the list.
func (r *run) complete() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.life.ctx, patience)
	defer cancel()
	r.gather()
	r.healthy()
	r.check(r.life.pool.Wait(ctx, "snapshots"), "waiting for snapshots")
}

func rollbackRow(name string, deadly bool) *row {
	return &row{name: name, deadly: deadly, prepare: snapshotted, play: errandScript,
		errand: &errand{do: rollBack, expected: rolledBack, after: (*run).complete},
		skip: func(c cell) string {
			if c.bare && (deadly || c.at == promise || c.at == idle) {
				return notWhileBare(c)
			}
			return ""
		}}
}

// lacking has m come back without the snapshot that it is then to roll back to:
// the rollback is decided while m is at the header that puts its copy in place.
// It fails once, says why, and is copied anew when it is opened again.
func lacking(r *run) {
	r.check(r.open(), "mounting")
	r.work(3)
	r.caughtUp()
	r.check(r.life.pool.NodeOffline(r.life.ctx, r.m.Name), "node offline")
	_, err := r.life.pool.SnapshotCreate(r.life.ctx, theSnapshot, false)
	r.check(err, "snapshot create")
	r.then = maps.Clone(r.model.last())
	for range 6 {
		r.work(5)
	}
	rolledBack(r)
	e, begun := &errand{do: rollBack, expected: rolledBack}, make(chan (<-chan error), 1)
	r.onCopy = func(rep resync.Report) {
		if rep.State != resync.Joining || r.hasFired() {
			return
		}
		r.m.Arm(&rig.Trap{On: faultdev.Write, Match: isHeader, Do: func() {
			r.fire()
			begun <- r.begin(e)
			<-time.After(100 * time.Millisecond) // it is decided, and waits for its turn to be committed
		}})
	}
	r.check(r.life.pool.NodeOnline(r.life.ctx, r.m.Name), "node online")
	r.awaitMoment()
	r.check(wait(<-begun, deadline), "the rollback")
	r.settleModel(e, nil)
	r.reads()
	r.until(r.m.Name+" back", func() bool { return r.status().State == cluster.NodeInSync })
	var failed, back time.Time
	turns, _ := r.life.pool.History(0)
	for _, t := range turns {
		switch {
		case t.Node != r.m.Name:
		case t.What == string(cluster.NodeFailed) && strings.Contains(t.Error, "rollback to snapshot"):
			if failed = t.Time; !back.IsZero() {
				r.fail("it failed twice: %s", t.Error)
			}
		case t.What == string(cluster.NodeInSync) && !failed.IsZero():
			back = t.Time
		}
	}
	if took := back.Sub(failed); failed.IsZero() || back.IsZero() || took > 2*time.Second {
		r.fail("it failed at %v and was back at %v", failed, back)
	}
	r.complete()
	r.finish()
}
