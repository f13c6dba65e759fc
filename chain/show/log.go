package show

import (
	"context"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// log prints the txgs that are in the intent log and not in the tree.
func (p *printer) log(ctx context.Context) {
	h := p.set.Header()
	if h.Mark.LogSeed == 0 {
		return
	}
	trees := make(map[ondisk.UUID]ondisk.Tid)
	labels := make(map[ondisk.UUID]string)
	list, _ := p.set.PFSs(ctx, h) // what cannot be read is told elsewhere
	for i := range list {
		id := list[i].Meta.PFSFsid
		trees[id], labels[id] = list[i].Ref.MirrorTid, list[i].Label()
	}
	found, err := chain.ReadLog(p.set.Best.Device, h, trees)
	if len(found) == 0 && err == nil {
		return
	}
	p.line(0, "intent log from %#x, seed %016x: %d txgs that are not in the tree", h.Mark.Log, h.Mark.LogSeed, len(found))
	for i := range found {
		x := &found[i]
		p.line(1, "%v of %s after %v, %d changes", x.Pos.T, labels[x.Fsid], x.Prev.T, len(x.Batch.Changes))
	}
	p.bad(1, err)
}
