package crashtest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// devices are those of an image that its first volume names, and those behind.
func devices(img *memdev.Device, sizes []int64) (devs, spare []ondisk.Device) {
	devs = crashdev.Split(img, sizes...)
	n := len(devs)
	if hdrs := headers(img, sizes[0]); len(hdrs) > 0 {
		n = min(n, max(1, int(hdrs[0].NVolumes)))
	}
	return devs[:n], devs[n:]
}

// check is the structure's, and fsck's with all its rules. It is for an image
// that is in use again: of what a cut tore, nothing may be left.
func check(ctx context.Context, img *memdev.Device, sizes []int64) error {
	if err := checkStructure(img, sizes); err != nil {
		return err
	}
	return checkAll(ctx, img, sizes)
}

// checkAll is fsck's opinion of all slots.
func checkAll(ctx context.Context, img *memdev.Device, sizes []int64) error {
	given, _ := devices(img, sizes)
	r, err := fsck.Check(ctx, given, fsck.Options{AllSlots: true, Workers: 1})
	if err != nil {
		return fmt.Errorf("fsck: %w", err)
	}
	for _, f := range r.Findings {
		if f.Severity > fsck.Info {
			return fmt.Errorf("fsck: %d errors, %d warnings, the first %v", r.Errors, r.Warnings, f)
		}
	}
	return nil
}

// judge opens an image, which it changes, and returns the digest of what it
// holds. The image must hold one of the states in want.
func judge(ctx context.Context, img *memdev.Device, sizes []int64, want []*commit) (uint64, error) {
	if err := checkStructure(img, sizes); err != nil {
		return 0, fmt.Errorf("as it was left: %w", err)
	}
	devs, spare := devices(img, sizes)
	if len(spare) > 0 { // growing was cut off: a check before a mount must not stop the boot
		if err := checkAll(ctx, img, sizes); err != nil {
			return 0, fmt.Errorf("as it was left: %w", err)
		}
		if err := addable(img, sizes, spare[0]); err != nil {
			return 0, err
		}
	}
	v, found, _, err := stateOf(ctx, devs, want)
	if err != nil {
		return 0, err
	}
	if v.Foreign() && !found.foreign {
		return 0, errors.New("it seems to be changed by another writer")
	}
	if err := v.Tainted(); err != nil {
		return 0, fmt.Errorf("it seems tainted: %w", err)
	}
	s := resume(ctx, devs, v, found.Digest, found.state)
	s.spare = spare
	if err := s.probe(); err != nil {
		return 0, fmt.Errorf("going on from %q: %w", found.What, err)
	}
	if err := check(ctx, img, sizes); err != nil {
		return 0, fmt.Errorf("after going on from %q: %w", found.What, err)
	}
	if len(spare) > 0 {
		if err := s.growAgain(); err != nil {
			return 0, err
		}
		if err := check(ctx, img, sizes); err != nil {
			return 0, fmt.Errorf("after growing again: %w", err)
		}
	}
	return found.Digest, nil
}

// stateOf opens an image, and returns which of the states in want it holds, and what
// was read.
func stateOf(ctx context.Context, devs []ondisk.Device, want []*commit) (*chain.Volume, *commit, *volume, error) {
	v, err := chain.Open(ctx, devs, chain.Options{Writer: wordUUID("writer"), CacheBytes: 1 << 20})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("it does not open: %w", err)
	}
	got, err := readVolume(ctx, v)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("reading it: %w", err)
	}
	digest := got.digest()
	i := slices.IndexFunc(want, func(c *commit) bool { return c.Digest == digest })
	if i < 0 {
		return nil, nil, nil, wrongState(want, got)
	}
	return v, want[i], got, got.matched()
}

func wrongState(want []*commit, got *volume) error {
	var errs []error
	for _, c := range want {
		errs = append(errs, fmt.Errorf("not the state after %q: %s", c.What, difference(c.state, got)))
	}
	return errors.Join(errs...)
}

// probe is what every image must be able to do: a few transactions, one at
// least that finds space however little there is, and to hold what they left.
func (s *session) probe() error {
	s.tight = true
	if err := s.settle(); err != nil {
		return err
	}
	n := 1
	if s.rnd.IntN(8) == 0 {
		n = 6 // every slot once and more
	}
	for range n {
		if err := s.stepFiles(); err != nil {
			return err
		}
		if err := s.stepRewrite(); err != nil {
			return err
		}
	}
	if err := s.stepPromise(); err != nil {
		return err
	}
	return s.verify()
}
