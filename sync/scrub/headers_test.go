package scrub

import (
	"slices"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/cluster"
)

// Symptom: copies of the volume header were only written while a volume was open.
// One that rotted was found when it was needed, and then the member, or the only
// copy, could not be opened.
func TestScrubReadsHeaders(t *testing.T) {
	for _, masters := range []int{1, 3} {
		r := newRig(t, masters)
		r.fill(3)
		m := masters - 1
		for _, at := range []int64{0, 63 << 16} { // what there is on a small volume
			_, err := r.devs[m].WriteAt([]byte("damage"), at+0x8000)
			r.must(err)
		}
		var said []string
		r.told(func(d cluster.Damage, path string, err error) {
			if said = append(said, path); err != nil || !strings.Contains(d.String(), "volume header") {
				t.Errorf("%s: %v", &d, err)
			}
		})
		rep := r.scrub()
		slices.Sort(said)
		if want := []string{"copy of the volume header at 0x0", "copy of the volume header at 0x3f0000"}; !slices.Equal(said, want) {
			t.Errorf("%d masters: found %q", masters, said)
		}
		if rep.Bad != 2 || rep.Repaired != 2 || rep.Unrepaired != 0 || r.end != nil {
			t.Errorf("%d masters: %+v %v", masters, rep, r.end)
		}
		crashed := r.devs[m].Clone()
		if again := r.scrub(); again.Bad != 0 {
			t.Errorf("%d masters: a second scrub: %+v", masters, again)
		}
		r.unmount()
		r.devs[m] = crashed
		v := r.open(m)
		if v.Tainted() != nil {
			t.Error(v.Tainted())
		}
		r.must(v.Close())
	}
}
