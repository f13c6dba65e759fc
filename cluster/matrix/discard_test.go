package matrix

import (
	"context"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
)

// changedElsewhere is the member that another system wrote to: m, or one beside it without
// which there is a quorum.
func (r *run) changedElsewhere() *rig.Member {
	switch {
	case r.cell.at != promise && r.cell.dice(21).IntN(2) == 0:
		return r.m
	case r.cell.member < masters:
		return r.w.Members[masters]
	}
	return r.w.Members[0]
}

func changeElsewhere(r *run) {
	f := r.changedElsewhere()
	dev := f.Copy()
	r.check(rig.ChangeAsOthersDo(context.Background(), dev), "changing a member elsewhere")
	f.Plug(dev)
}

func giveUp(r *run, l *life) error {
	f := r.changedElsewhere()
	told := -1 // turns of state when the change was given up
	for {
		changed := l.pool.Changed()
		switch r.stateIn(l, f.Name) {
		case cluster.NodeForeign:
			if err := l.pool.NodeDiscard(l.ctx, f.Name); err != nil {
				return err
			}
			_, told = l.pool.History(0)
		case cluster.NodeInSync:
			return foreignAgain(l, f.Name, told)
		}
		select {
		case <-changed:
		case <-time.After(time.Second):
		case <-l.ctx.Done():
			return l.ctx.Err()
		}
	}
}

// foreignAgain: what was given up is not asked about again while the mount lasts.
func foreignAgain(l *life, name string, told int) error {
	if told < 0 {
		return nil
	}
	turns, _ := l.pool.History(told)
	for _, t := range turns {
		if t.Node == name && t.What == string(cluster.NodeForeign) {
			return fmt.Errorf("%s was foreign again after its change was discarded", name)
		}
	}
	return nil
}

func (r *run) stateIn(l *life, name string) cluster.NodeState {
	for _, n := range l.pool.Status().Nodes {
		if n.Name == name {
			return n.State
		}
	}
	return ""
}

func discardRow(name string, deadly bool) *row {
	return &row{name: name, deadly: deadly, prepare: changeElsewhere, play: errandScript, skip: notWhileBare,
		errand: &errand{do: giveUp, copies: true, taken: func(r *run) bool { return r.changedElsewhere() == r.m }}}
}
