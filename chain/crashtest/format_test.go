package crashtest

import (
	"context"
	"fmt"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// TestFormatCut cuts a format that goes over a volume in use. What is left may
// be no volume, or a stage of the old one's end; but if it says it is the new
// one, it is whole, and from the answer on it is the new one.
func TestFormatCut(t *testing.T) {
	const most = 24
	for _, shape := range Shapes()[:2] {
		t.Run(shape.Name, func(t *testing.T) {
			old, s := newFile(t, shape)
			for range 6 {
				if err := s.stepFiles(); err != nil {
					t.Fatal(err)
				}
			}
			tap := NewTap(old, 0, shape.Sizes...)
			if err := format(t.Context(), tap.Devices(), "another"); err != nil {
				t.Fatal(err)
			}
			answered, images := tap.Events(), 0
			check := func(st crashdev.State) bool {
				images++
				if err := formatted(t.Context(), st.Image, shape.Sizes, st.N >= answered); err != nil {
					t.Errorf("%s: %v", st.Name, err)
				}
				return !t.Failed()
			}
			check(tap.Least(answered))
			tap.Each(crashdev.Options{Seed: 1, Max: most}, check)
			t.Logf("%d images", images)
		})
	}
}

// formatted checks an image that a format left; it must be done if answered.
func formatted(ctx context.Context, img *memdev.Device, sizes []int64, answered bool) error {
	hdrs := headers(img, sizes[0])
	if len(hdrs) == 0 || hdrs[0].Fsid != wordUUID("another") {
		if answered {
			return fmt.Errorf("%d headers, and none is the new one", len(hdrs))
		}
		return nil
	}
	for _, h := range hdrs {
		if h.Fsid != hdrs[0].Fsid {
			return fmt.Errorf("old and new headers beside each other")
		}
	}
	if err := checkStructure(img, sizes); err != nil {
		return err
	}
	s, err := openSession(ctx, nil, crashdev.Split(img, sizes...), 1, nil)
	if err != nil {
		return err
	}
	if len(s.now.labels("")) != 2 || len(s.now.trees[first].leaves) != 1 || s.now.trees[first].leaves[leafKey{inum: ondisk.InumRoot}].meta == nil {
		return fmt.Errorf("a new volume with PFSs %v", s.now.labels(""))
	}
	if err := s.probe(); err != nil {
		return err
	}
	return checkStructure(img, sizes)
}
