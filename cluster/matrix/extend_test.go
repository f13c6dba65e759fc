package matrix

import (
	"fmt"

	"github.com/anvilfs/anvilfs/cluster"
)

// moreSize is not a whole number of GiBs: only the last device may be so.
const moreSize = 1<<30 + 64<<20

// oneMore gives the member that grows one more device, which may be the one that
// has the fault.
func oneMore(r *run) {
	g := r.grown()
	g.AddDevice(moreSize)
	if g == r.m && r.cell.dice(28).IntN(2) == 0 {
		r.ill = g.More
	}
}

// extend makes that device a part of the member, unless it became one before
// somebody was told.
func extend(r *run, l *life) error {
	g := r.grown()
	if g.Extended() {
		return nil
	}
	_, size, err := l.pool.NodeExtend(l.ctx, g.Name, cluster.Addition{Name: g.More.Name, Open: g.More.Open})
	if err == nil && size != slots+moreSize {
		err = fmt.Errorf("grown to %d", size)
	}
	return err
}

// extended: the status tells of the new size, under the new name.
func extended(r *run) {
	larger(r)
	if n, want := r.statusOf(r.grown().Name), r.grown().Spec().Name; n.Name != want {
		r.fail("it is called %s, not %s", n.Name, want)
	}
}

func extendRow(name string, deadly bool) *row {
	return &row{name: name, deadly: deadly, roomy: true, prepare: oneMore, play: errandScript, skip: notWhileBare,
		errand: &errand{do: extend, after: extended, taken: func(r *run) bool { return r.grown() == r.m }}}
}
