package salvage

import (
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// replay has c look at the volume as it will be once its intent log is in the
// tree: what an fsync made durable just before a crash may be nowhere else.
func (c *copier) replay(ctx context.Context, devs []ondisk.Device) error {
	hdr := c.set.Header()
	list, _ := c.set.PFSs(ctx, hdr) // what is damaged is told by who looks for it
	trees := make(map[ondisk.UUID]ondisk.Tid)
	for i := range list {
		trees[list[i].Meta.PFSFsid] = list[i].Ref.MirrorTid
	}
	found, err := chain.ReadLog(c.set.Best.Device, hdr, trees)
	if len(found) == 0 && err == nil {
		return nil
	}
	seen, err := chain.Replayed(ctx, devs)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		c.lost("the intent log", fmt.Errorf("what programs synced last is missing: %w", err))
	}
	c.set, err = media.Open(seen)
	return err
}
