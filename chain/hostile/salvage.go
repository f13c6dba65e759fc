package hostile

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/salvage"
	"github.com/anvilfs/anvilfs/ondisk"
)

// salvageOneIn is how many images there are for one that files are copied out
// of: making them takes longer than all the rest.
const salvageOneIn = 8

// checkSalvage copies out what is there and what was deleted, and repairs what
// a repair puts right without other members.
func (im *Image) checkSalvage(ctx context.Context, sound Contents, _ *Result) error {
	if im.Seed%salvageOneIn != 0 {
		return nil
	}
	rnd := rand.New(rand.NewPCG(im.Seed, 7))
	o := salvage.Options{Label: im.p.pfs[rnd.IntN(len(im.p.pfs))], Slot: -1, Orphans: true}
	for _, deleted := range []bool{false, true} {
		if err := im.salvage(ctx, o, deleted); err != nil {
			return fmt.Errorf("deleted %v: %w", deleted, err)
		}
	}
	return im.makeUp(ctx, sound)
}

// makeUp makes the freemap up from the tree, which must spare what is there.
func (im *Image) makeUp(ctx context.Context, sound Contents) error {
	ws := im.Watch()
	v, err := chain.Open(ctx, ws.Devices(), chain.Options{CacheBytes: 1 << 20, DoubtFreemap: true})
	if err != nil {
		return ws.Misuse()
	}
	before, err := ReadAll(ctx, v)
	if err == nil {
		_, _ = v.Bulkfree(ctx, chain.BulkfreeOptions{}) // it may meet damage, and frees nothing then
		err = v.RewriteHeaders(ctx)
	}
	if errors.Is(err, chain.ErrNoSpace) || errors.Is(err, ondisk.ErrCorrupt) {
		err = nil // nothing was written
	}
	after, rerr := ReadAll(ctx, v)
	if err = errors.Join(err, rerr, v.Close(), ws.Misuse()); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	for label, was := range before {
		if after[label] != was {
			return fmt.Errorf("repair: PFS %q changed", label)
		}
	}
	return im.compare(sound, after)
}

func (im *Image) salvage(ctx context.Context, o salvage.Options, deleted bool) error {
	dir, err := os.MkdirTemp("", "anvilfs-hostile")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ws := im.Watch()
	if deleted {
		_, err = salvage.Deleted(ctx, ws.Devices(), dir, o, nil)
	} else {
		_, err = salvage.Copy(ctx, ws.Devices(), dir, o)
	}
	if werr := ws.Misuse(); werr != nil {
		return werr
	}
	_ = err // nothing could be copied: as good as anything, if it ends
	return ctx.Err()
}
