package sim

import (
	"errors"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// reconfigure asks for other members. Where disks are small it asks for what a
// mount would do: who is made a master is in sync, whatever room it has, and
// there are three at least, so that one may be full.
func (p *prim) reconfigure(ms []core.Member) {
	if p.w.kind.full {
		law := &p.core.Charter().Config
		late := func(id ondisk.UUID) bool {
			n := p.w.nodes[id[0]-1]
			return !law.IsMaster(id) && (p.away[n.index] || !p.reaches(n) || n.taken != nil || n.core.State().Pos != p.core.Head())
		}
		if masters := core.Masters(ms); len(masters) < 3 || slices.ContainsFunc(masters, late) {
			p.propose()
			return
		}
		p.w.stats.Moved++
	}
	p.step(core.Reconfigure{Members: ms})
}

// dropClones deletes the clones there are, on each member by itself: they are no
// part of the PFS. Without that full disks would never have room again.
func (p *prim) dropClones() {
	for _, n := range p.w.nodes {
		if !p.reaches(n) || n.taken != nil || n.busy() {
			continue
		}
		infos := n.infos()
		i := slices.IndexFunc(infos, func(info chain.PFSInfo) bool { return strings.HasPrefix(info.Label, "clone-") })
		if i < 0 {
			continue
		}
		gone, v := infos[i], n.vol.media.Volume()
		delete(n.cloned, gone.Label)
		n.chore(func() error {
			t, err := v.Begin(bg)
			if err != nil {
				return err
			}
			t.UseReserve()
			if err := t.DeletePFS(bg, gone.Label); err != nil {
				t.Abort()
				return err
			}
			t.ClearState(gone.Fsid)
			return errors.Join(t.Commit(bg), v.DrainFrees(bg))
		}, func() { p.w.stats.Dropped++ })
	}
}
