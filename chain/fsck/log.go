package fsck

import (
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// RemedyLog is what helps against a damaged intent log.
const RemedyLog = "a member of a cluster: mount it with the others, which copies it anew; a single copy: fsck --repair drops what cannot be applied"

// log looks at the txgs that are durable and not in the tree yet.
func (c *checker) log() {
	trees := make(map[ondisk.UUID]ondisk.Tid)
	for _, p := range c.pfss {
		trees[p.meta.PFSFsid] = p.ref.MirrorTid
	}
	found, err := chain.ReadLog(c.set.Best.Device, c.hdr, trees)
	c.rep.Logged = len(found)
	switch {
	case !c.hdr.WrittenByUs():
		if len(found) > 0 || err != nil {
			c.add(Finding{Severity: Warning, What: fmt.Sprintf("another system changed the volume after a crash: %d txgs in the intent log do not count any more", len(found)), Remedy: "nothing to do for a single copy; a member of a cluster is copied anew"})
		}
		return
	case err != nil && !errors.Is(err, ondisk.ErrCorrupt) && !errors.Is(err, chain.ErrBadBatch):
		c.add(Finding{Severity: Error, What: err.Error(), Remedy: "replace the device"})
	case err != nil:
		c.rep.LogDamaged = true
		c.add(Finding{Severity: Error, What: err.Error(), Remedy: RemedyLog})
	}
	if len(found) > 0 {
		c.add(Finding{Severity: Info, What: fmt.Sprintf("%d txgs in the intent log, up to %v, are durable and not in the tree yet", len(found), found[len(found)-1].Pos.T), Remedy: "nothing to do: the next mount brings them in"})
	}
}
