package crash

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
	"github.com/anvilfs/anvilfs/tests/bar"
)

var goalNewfs = bar.Goal{What: "crash images of clusters being made", Quick: 30, Test: 50, Nightly: 1000}

// TestNewfs cuts the making of a cluster everywhere. Its members are refused
// together, with words that say why, or they are a cluster of all three; and it
// can be made again on whatever was left.
func TestNewfs(t *testing.T) {
	shape := Shapes()[2]
	tap := shape.newTap(memdev.New(int64(shape.Masters)*shape.Size), *seed)
	if err := found(t.Context(), tap.Devices()); err != nil {
		t.Fatal(err)
	}
	most := map[bar.Depth]int{bar.Quick: 2, bar.Test: 4}[bar.Of(t)] // at night all
	last, images, refused := tap.Events(), 0, 0
	tap.Each(crashdev.Options{Seed: *seed, Max: most}, func(st crashdev.State) bool {
		images++
		opens, err := made(t.Context(), shape, st.Image)
		if err == nil && !opens && st.N == last {
			err = errors.New("it was made, and is refused")
		}
		if err != nil {
			t.Errorf("seed %d, cut %q: %v", *seed, st.Name, err)
		}
		if !opens {
			refused++
		}
		return !t.Failed()
	})
	if t.Logf("%d of %d images are refused", refused, images); refused == 0 || refused == images {
		t.Error("it was cut before or after all, not within")
	}
	goalNewfs.Check(t, images)
}

// found makes a volume on each device and a cluster of them, as newfs does.
func found(ctx context.Context, devs []ondisk.Device) error {
	var vols []*chain.Volume
	var roles []ondisk.PFSType
	for _, d := range devs {
		_, err := chain.Format(ctx, []ondisk.Device{d}, chain.FormatOptions{Now: time.Unix(1e9, 0),
			Labels: []chain.PFSSpec{{Label: label, Type: ondisk.PFSMaster, Plain: true}}})
		if err != nil {
			return err
		}
	}
	for _, d := range devs {
		v, err := chain.Open(ctx, []ondisk.Device{d}, chain.Options{})
		if err != nil {
			return err
		}
		vols, roles = append(vols, v), append(roles, ondisk.PFSMaster)
	}
	err := cluster.Found(ctx, vols, label, roles)
	for _, v := range vols {
		err = errors.Join(err, v.Close())
	}
	return err
}

// made looks at what a cut left, and makes it anew.
func made(ctx context.Context, shape Shape, img *memdev.Device) (opens bool, err error) {
	s := newSession(ctx, shape, nil, crashdev.Split(img, shape.sizes()...), 1)
	why := s.mountAny()
	if opens = why == nil; opens {
		if err := s.whole(); err != nil {
			return true, err
		}
	} else if !slices.ContainsFunc([]string{"is not part of a cluster: ", "HAMMER2 volume header", "volume header: "},
		func(words string) bool { return strings.Contains(why.Error(), words) }) {
		return false, fmt.Errorf("the refusal does not say what is wrong: %w", why)
	}
	if err := found(ctx, s.devs); err != nil {
		return opens, fmt.Errorf("making it again: %w", err)
	}
	if err := s.mountAny(); err != nil {
		return opens, fmt.Errorf("made again: %w", err)
	}
	return opens, s.whole()
}

// whole demands a healthy cluster of all members that can be used, and closes it.
func (s *session) whole() error {
	if n := s.pool.Status().Quorum.Masters; n != s.shape.Masters {
		return errors.Join(fmt.Errorf("a cluster of %d masters, not %d", n, s.shape.Masters), s.close())
	}
	err := s.mend()
	if err == nil {
		_, err = s.probe()
	}
	s.noteLevel()
	if err = errors.Join(err, s.close()); err == nil {
		err = s.inspect()
	}
	return err
}
