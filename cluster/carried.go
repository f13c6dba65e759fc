package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/signature"
)

// Labelled adds to the name of a HAMMER2 volume, as package signature gives it, whose
// it is: the labels of the filesystems on devs, which stay open. Anything else, and a
// volume that cannot be read, keeps its name.
func Labelled(ctx context.Context, found string, devs []ondisk.Device) string {
	rest, ok := strings.CutPrefix(found, signature.Hammer2)
	if !ok {
		return found
	}
	look := make([]ondisk.Device, len(devs))
	for i, d := range devs {
		look[i] = kept{d}
	}
	vol, err := chain.Open(ctx, look, chain.Options{ReadOnly: true, CacheBytes: 1 << 20})
	if err != nil {
		return found
	}
	defer vol.Close() // nothing was written
	infos, _ := vol.PFSs(ctx)
	var labels []string
	for i := range infos {
		switch p := &infos[i]; {
		case p.Type == ondisk.PFSCache:
			labels = append(labels, "a cache of "+p.Label)
		case Mountable(p):
			labels = append(labels, p.Label)
		}
	}
	if len(labels) == 0 {
		return found
	}
	return signature.Hammer2 + " with " + strings.Join(labels, ", ") + rest
}

// emptyLook is how much of a device is looked at for what it holds.
const emptyLook = 1 << 20

// mustBeEmpty refuses devices that carry anything, and says what, where that is known.
func mustBeEmpty(ctx context.Context, devs []ondisk.Device) error {
	for _, d := range devs {
		found, err := signature.Of(d, d.Size())
		if err != nil {
			return err
		}
		if found != "" {
			return fmt.Errorf("it carries %s: nothing was changed; give -f to overwrite it", Labelled(ctx, found, devs))
		}
		b := ondisk.AlignedBuffer(int(min(emptyLook, d.Size())))
		if _, err := d.ReadAt(b, 0); err != nil {
			return err
		}
		for _, x := range b {
			if x != 0 {
				return errors.New("the device is not empty, and what it carries is not known: nothing was changed; give -f to overwrite it")
			}
		}
	}
	return nil
}
