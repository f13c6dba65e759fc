package crashtest

import (
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// recorded runs a few steps on a new volume.
func recorded(t *testing.T, s Shape, steps ...func(*session) error) *session {
	t.Helper()
	base, err := s.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := openSession(t.Context(), NewTap(base, 0, s.Sizes...), nil, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.tight = s.Free > 0
	for _, step := range append([]func(*session) error{(*session).settle}, steps...) {
		if err := step(c); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// A header that stays behind while the program believes it was replaced is as
// good as space that is used again too early: what the old header reaches is
// overwritten, and that is noticed although it is never the newest.
func TestReuseTooEarlyIsNoticed(t *testing.T) {
	s := Shapes()[2]
	for _, deaf := range []bool{false, true} {
		c := recorded(t, s, (*session).stepFiles, (*session).stepFiles, (*session).stepFiles)
		if deaf {
			c.tap.Deafen(ondisk.HeaderZone)
		}
		for range 40 {
			if err := c.stepRewrite(); err != nil {
				t.Fatal(err)
			}
		}
		err := checkStructure(c.last(), s.Sizes)
		if deaf != (err != nil) || deaf && !strings.Contains(err.Error(), "number 3 from the newest") {
			t.Errorf("old header: %v, noticed: %v", deaf, err)
		}
	}
}

// last is the image without any cut.
func (s *session) last() *memdev.Device {
	n := s.tap.Events()
	return s.tap.rec.Image(n, func(int, int) bool { return true })
}

// A chunk in use that the freemap calls free is noticed before it is taken.
func TestFreeTooEarlyIsNoticed(t *testing.T) {
	s := Shapes()[0]
	c := recorded(t, s, (*session).stepFiles, (*session).stepRewrite)
	img := c.last()
	want := []*commit{&c.commits[len(c.commits)-1]}
	if _, err := judge(t.Context(), img.Clone(), s.Sizes, want); err != nil {
		t.Fatal(err)
	}
	h := headers(img, s.Sizes[0])[0]
	ref := &h.Freemap[0]
	block := make([]byte, ref.Size())
	if _, err := img.ReadAt(block, int64(ref.Off())); err != nil {
		t.Fatal(err)
	}
	leaf, err := ondisk.DecodeFreemapLeaf(block)
	if err != nil {
		t.Fatal(err)
	}
	off := h.Sroot[0].Off() // the super-root's own block
	e := &leaf[off/ondisk.SegmentSize]
	e.SetState(int(off%ondisk.SegmentSize/ondisk.ChunkSize), ondisk.ChunkFree)
	e.Avail += ondisk.ChunkSize
	ondisk.EncodeFreemapLeaf(block, leaf)
	ref.SetCheck(block)
	put(t, img, block, int64(ref.Off()))
	newest(t, img, s, h)
	if _, err := judge(t.Context(), img, s.Sizes, want); err == nil || !strings.Contains(err.Error(), "not allocated") {
		t.Errorf("%v", err)
	}
}

// A state entry that is not where its PFS is is noticed.
func TestEntryWithoutItsRootIsNoticed(t *testing.T) {
	s := Shapes()[0]
	c := recorded(t, s, (*session).stepFiles)
	img := c.last()
	last := c.commits[len(c.commits)-1]
	h := headers(img, s.Sizes[0])[0]
	h.States[0].T++
	newest(t, img, s, h)
	state := last.state.clone()
	state.states[h.States[0].Fsid] = h.States[0]
	last.state, last.Digest = state, state.digest()
	if _, err := judge(t.Context(), img, s.Sizes, []*commit{&last}); err == nil || !strings.Contains(err.Error(), "state entry") {
		t.Errorf("%v", err)
	}
}

func put(t *testing.T, img *memdev.Device, p []byte, off int64) {
	t.Helper()
	if _, err := img.WriteAt(p, off); err != nil {
		t.Fatal(err)
	}
}

// newest writes a header over the newest one.
func newest(t *testing.T, img *memdev.Device, s Shape, h *ondisk.VolumeHeader) {
	t.Helper()
	old, block := make([]byte, ondisk.HeaderSize), make([]byte, ondisk.HeaderSize)
	h.Encode(block)
	for _, off := range ondisk.SlotOffsets(uint64(s.Sizes[0])) {
		if _, err := img.ReadAt(old, off); err != nil {
			t.Fatal(err)
		}
		if was, err := ondisk.DecodeVolumeHeader(old); err == nil && was.MirrorTid == h.MirrorTid {
			put(t, img, block, off)
			return
		}
	}
	t.Fatal("the newest header is nowhere")
}
