package merge

import (
	"bytes"
	"testing"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// What a decoder takes is encoded to the same again.
func FuzzDecodeProgress(f *testing.F) {
	f.Add(EncodeProgress(&Progress{Branch: ondisk.UUID{1}, At: cluster.Position{T: 7}, Node: "b", Next: 3, Stamp: 5,
		Ranges: []Range{{Low: 1025, Count: 3, First: 2000}}}))
	f.Add([]byte(progressMagic + "{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodeProgress(b)
		if err != nil {
			return
		}
		again := EncodeProgress(p)
		q, err := DecodeProgress(again)
		if err != nil || !bytes.Equal(EncodeProgress(q), again) {
			t.Fatalf("%q, then %v", again, err)
		}
	})
}

func FuzzDecodeConflicts(f *testing.F) {
	f.Add(EncodeConflicts(&Conflicts{List: []Conflict{{Name: "a", Dir: 1, What: "changed on both sides", CopyName: "a.conflict-b-1", CopyDir: 1}}, More: 2}))
	f.Add([]byte(conflictMagic + "{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeConflicts(b)
		if err != nil {
			return
		}
		again := EncodeConflicts(c)
		d, err := DecodeConflicts(again)
		if err != nil || !bytes.Equal(EncodeConflicts(d), again) {
			t.Fatalf("%q, then %v", again, err)
		}
	})
}
