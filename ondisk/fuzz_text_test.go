package ondisk

import (
	"bytes"
	"strings"
	"testing"
)

// What a parser of text accepts is what it prints.

func FuzzParseTid(f *testing.F) {
	f.Add("3:17")
	f.Add("4294967295:4294967295")
	f.Fuzz(func(t *testing.T, s string) {
		tid, err := ParseTid(s)
		if err != nil {
			return
		}
		if again, err := ParseTid(tid.String()); err != nil || again != tid {
			t.Errorf("%q is %v, and that %v, %v", s, tid, again, err)
		}
	})
}

func FuzzParseUUID(f *testing.F) {
	f.Add(FSType.String())
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := ParseUUID(s); err == nil && u.String() != strings.ToLower(s) {
			t.Errorf("%q is %v", s, u)
		}
	})
}

// FuzzStates reads our own part of a header of any bytes, and writes it back.
func FuzzStates(f *testing.F) {
	f.Add([]byte(markMagic), []byte{1, 2, 3}, uint8(3))
	f.Fuzz(func(t *testing.T, mark, states []byte, at uint8) {
		b := make([]byte, HeaderSize)
		copy(b[ourMark:ourStates], mark)
		copy(b[ourStates+int(at)%MaxStates*lenState:ourStates+MaxStates*lenState], states)
		var h VolumeHeader
		h.getOurs(b)
		if err := h.validateOurs(); err != nil {
			t.Fatal(err)
		}
		again := bytes.Clone(b)
		h.putOurs(again)
		var o VolumeHeader
		if o.getOurs(again); o.Mark != h.Mark || len(o.States) != len(h.States) {
			t.Fatalf("%+v becomes %+v", h.Mark, o.Mark)
		}
		for i := range h.States {
			if o.States[i] != h.States[i] {
				t.Errorf("entry %d changes", i)
			}
			if e := h.State(h.States[i].Fsid); e == nil || e.Fsid != h.States[i].Fsid {
				t.Errorf("entry %d is not found", i)
			}
		}
	})
}
