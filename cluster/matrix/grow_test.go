package matrix

import (
	"fmt"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/ondisk"
)

// grown is the member whose device became larger: m, or one beside it where m is
// away at that moment, and so is not grown.
func (r *run) grown() *rig.Member {
	if r.cell.at < promise && r.cell.dice(21).IntN(2) == 0 {
		return r.m
	}
	return r.w.Members[(r.cell.member+2)%nodes]
}

// enlarged makes the device larger, and with it perhaps the number of headers.
func enlarged(r *run) {
	more := int64(64 << 20)
	if r.cell.dice(23).IntN(2) == 0 {
		more = 3 << 30
	}
	r.grown().Enlarge(more)
}

func grow(r *run, l *life) error {
	_, size, err := l.pool.NodeGrow(l.ctx, r.grown().Name)
	if want := uint64(r.grown().Copy().Size()) / ondisk.VolumeAlign * ondisk.VolumeAlign; err == nil && size != want {
		err = fmt.Errorf("grown to %d, the device has %d", size, want)
	}
	return err
}

// larger: the status tells of the new size.
func larger(r *run) {
	g := r.grown()
	r.until(g.Name+" larger and in sync", func() bool {
		n := r.statusOf(g.Name)
		for _, o := range r.life.pool.Status().Nodes {
			if !named(o.Name, g) && o.Total >= n.Total {
				return false
			}
		}
		return n.State == cluster.NodeInSync
	})
}

func growRow(name string, deadly bool) *row {
	return &row{name: name, deadly: deadly, prepare: enlarged, play: errandScript, skip: notWhileBare,
		errand: &errand{do: grow, after: larger, taken: func(r *run) bool { return r.grown() == r.m }}}
}
