package fsck

import (
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
)

// makeUp makes the freemap of a device up, as fsck --repair does.
func makeUp(t *testing.T, dev ondisk.Device) {
	t.Helper()
	v, err := chain.Open(bg, []ondisk.Device{dev}, chain.Options{DoubtFreemap: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Bulkfree(bg, chain.BulkfreeOptions{}); err != nil {
		t.Error(err)
	}
	if err := v.RewriteHeaders(bg); err != nil {
		t.Error(err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

// A power cut at any write of a repair leaves a volume that holds all it held,
// and that the next repair makes right.
func TestRepairCutOff(t *testing.T) {
	for _, c := range []struct {
		name    string
		breakIt func(m *maker)
	}{
		{"leaf", func(m *maker) { m.flipFreemap(1) }},
		{"node", func(m *maker) { m.deepen(); m.flipFreemap(2) }},
		{"none", func(m *maker) { m.edit(func(h *ondisk.VolumeHeader) { h.Freemap = [4]ondisk.Blockref{} }) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMaker(t, 5<<30) // three header slots
			m.tree()
			m.commit(ondisk.MakeTid(1, 1), nil)
			c.breakIt(m)
			rec := crashdev.New(m.dev)
			makeUp(t, rec)
			n := rec.Each(crashdev.Options{Seed: 7, Max: 12}, func(s crashdev.State) bool {
				img := s.Image
				makeUp(t, img)
				img.Reopen()
				rep := check(t, Options{AllSlots: true}, img)
				inodes := uint64(0)
				for _, p := range rep.PFSs {
					inodes += p.Inodes
				}
				if !rep.Clean() || inodes < 303 {
					t.Errorf("%v: %d inodes, %v", s, inodes, rep.Findings)
				}
				return !t.Failed()
			})
			t.Logf("%d states", n)
			if n < 40 {
				t.Errorf("%d states are too few to mean anything", n)
			}
		})
	}
}
