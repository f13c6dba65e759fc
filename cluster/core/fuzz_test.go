package core

import (
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// FuzzLineage compares histories of any marks, as damaged charters have them:
// it ends, is the same from both sides, and never promises more than either has.
func FuzzLineage(f *testing.F) {
	f.Add([]byte{1, 0, 0, 3, 1, 9, 4, 3, 7}, []byte{1, 0, 0, 3, 1, 9}, uint64(4<<32|5), uint64(3<<32|9))
	f.Fuzz(func(t *testing.T, x, y []byte, at, bt uint64) {
		lineage := func(in []byte) *Lineage {
			l := new(Lineage)
			for ; len(in) >= 3; in = in[3:] {
				if in[0]&0x80 != 0 {
					l = l.WithRollback(tidOf(in[1]&0x7F, in[2]), tidOf(in[0]&0x7F, in[2]/2))
					continue
				}
				l = l.WithEpoch(uint32(in[0]), Position{T: tidOf(in[1], in[2])})
			}
			return l
		}
		a, b := lineage(x), lineage(y)
		pa, pb := Position{T: ondisk.Tid(at)}, Position{T: ondisk.Tid(bt)}
		common := CommonTid(a, pa, b, pb)
		if other := CommonTid(b, pb, a, pa); other != common {
			t.Errorf("common %v one way, %v the other", common, other)
		}
		if common > max(pa.T, pb.T) {
			t.Errorf("common %v above both %v and %v", common, pa.T, pb.T)
		}
		a.Contains(pa, pb.T)
		b.ContainsPos(pb, pa)
	})
}

func tidOf(epoch, seq byte) ondisk.Tid { return ondisk.MakeTid(uint32(epoch), uint32(seq)) }
