package ondisk

import (
	"errors"
	"strings"
	"testing"
)

// Format section 5.
func TestCheckVectors(t *testing.T) {
	if got := CRC32C([]byte("123456789")); got != 0xE3069283 {
		t.Errorf("CRC-32C %#x", got)
	}
	if got := XXH64([]byte("a")); got != 0xD2A6081C8157197E {
		t.Errorf("XXH64 %#x", got)
	}
	// SHA-256 of "abc", its last third folded.
	code := checkCode(CheckSHA192, []byte("abc"))
	want := [24]byte{
		0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
		0xb0 ^ 0xb4, 0x03 ^ 0x10, 0x61 ^ 0xff, 0xa3 ^ 0x61, 0x96 ^ 0xf2, 0x17 ^ 0x00, 0x7a ^ 0x15, 0x9c ^ 0xad,
	}
	if [24]byte(code[:24]) != want {
		t.Errorf("SHA192 % x", code[:24])
	}
}

func TestCheck(t *testing.T) {
	block := make([]byte, 1024)
	copy(block, "some data")
	for m := CheckNone; m <= CheckFreemap; m++ {
		r := Blockref{Type: TypeData, KeyBits: LogicalBits, DataOff: MakeDataOff(0x8800400, 10)}
		r.SetMethods(m, CompNone)
		r.Check[63] = 1 // stale
		r.SetCheck(block)
		if r.Check[63] != 0 {
			t.Errorf("%v: stale bytes stay", m)
		}
		if err := r.VerifyCheck(block); err != nil {
			t.Errorf("%v: %v", m, err)
		}
		block[1023] ^= 1
		err := r.VerifyCheck(block)
		block[1023] ^= 1
		var ce *CheckError
		if verified := m > CheckDisabled; verified != errors.As(err, &ce) || verified != errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: flipped bit gives %v", m, err)
		} else if verified && (ce.Ref != r || ce.Want == ce.Got || !strings.Contains(err.Error(), "0x8800400")) {
			t.Errorf("%v: %+v", m, ce)
		}
		for i := range codeLen(m) {
			r.Check[i] ^= 0x80
			if r.VerifyCheck(block) == nil {
				t.Errorf("%v: byte %d of the code is not compared", m, i)
			}
			r.Check[i] ^= 0x80
		}
		if err := r.VerifyCheck(block[:512]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: short block gives %v", m, err)
		}
	}
	leaf := Blockref{Type: TypeFreemapLeaf, KeyBits: 30, DataOff: MakeDataOff(0x10000, 15)}
	leaf.SetMethods(CheckFreemap, CompNone)
	leaf.Check[4], leaf.Check[8] = 0xff, 0x37
	leaf.SetCheck(make([]byte, FreemapBlockSize))
	if leaf.Check[4] != 0xff || leaf.Check[8] != 0x37 {
		t.Error("the hints of a freemap leaf are gone")
	}
}

func TestBlockrefFields(t *testing.T) {
	r := Blockref{Type: TypeIndirect, KeyBits: 7, Key: 0x400, DataOff: MakeDataOff(0x08c0c000, 14)}
	r.SetMethods(CheckXXHash64, CompLZ4)
	r.SetCounts(0x7e000, 0x4c)
	if r.Methods != 0x32 || r.Off() != 0x08c0c000 || r.Radix() != 14 || r.Size() != 16384 || r.LastKey() != 0x47f ||
		r.CheckMethod() != CheckXXHash64 || r.CompMethod() != CompLZ4 || r.DataCount() != 0x7e000 || r.InodeCount() != 0x4c {
		t.Errorf("%+v", r)
	}
	if got := r.String(); got != "indirect 0000000000000400/7 at 0x8c0c000.14" {
		t.Errorf("prints as %q", got)
	}
	for _, c := range []struct {
		bits uint8
		key  uint64
		want uint64
	}{{0, 5, 5}, {63, 1 << 63, 1<<64 - 1}, {64, 0, 1<<64 - 1}} {
		if got := (&Blockref{KeyBits: c.bits, Key: c.key}).LastKey(); got != c.want {
			t.Errorf("%x/%d ends at %x", c.key, c.bits, got)
		}
	}
	if MakeDataOff(0x8800400, 0) != 0 || (&Blockref{}).Size() != 0 {
		t.Error("radix 0 is not no block")
	}
}

func TestBlockrefValidate(t *testing.T) {
	at := MakeDataOff
	for _, c := range []struct {
		what string
		r    Blockref
		ok   bool
	}{
		{"empty", Blockref{}, true},
		{"empty with a key", Blockref{Key: 1}, false},
		{"invalid", Blockref{Type: TypeInvalid}, true},
		{"type 8", Blockref{Type: 8}, false},
		{"inode", Blockref{Type: TypeInode, Key: 1024, DataOff: at(0x8800c00, 10)}, true},
		{"inode without a block", Blockref{Type: TypeInode, Key: 1024}, false},
		{"inode of 2 KiB", Blockref{Type: TypeInode, DataOff: at(0x8800000, 11)}, false},
		{"inode for many keys", Blockref{Type: TypeInode, KeyBits: 1, DataOff: at(0x8800000, 10)}, false},
		{"check method 6", Blockref{Type: TypeInode, Methods: 0x60, DataOff: at(0x8800000, 10)}, false},
		{"indirect", Blockref{Type: TypeIndirect, KeyBits: 63, Key: 1 << 63, DataOff: at(0x8800000, 12)}, true},
		{"indirect of all keys", Blockref{Type: TypeIndirect, KeyBits: 64, DataOff: at(0x8800000, 16)}, true},
		{"keybits 65", Blockref{Type: TypeIndirect, KeyBits: 65, DataOff: at(0x8800000, 16)}, false},
		{"indirect of 8 elements", Blockref{Type: TypeIndirect, KeyBits: 7, DataOff: at(0x8800000, 10)}, false},
		{"key below keybits", Blockref{Type: TypeIndirect, KeyBits: 7, Key: 0x440, DataOff: at(0x8800000, 12)}, false},
		{"data", Blockref{Type: TypeData, KeyBits: 16, Key: 65536, Methods: 0x33, DataOff: at(0x8810000, 16)}, true},
		{"data in the middle of a chunk", Blockref{Type: TypeData, KeyBits: 16, DataOff: at(0x8805400, 12)}, true},
		{"data across chunks", Blockref{Type: TypeData, KeyBits: 16, DataOff: at(0x8803c00, 11)}, false},
		{"large data off its size", Blockref{Type: TypeData, KeyBits: 16, DataOff: at(0x8804000, 15)}, false},
		{"off a kilobyte", Blockref{Type: TypeData, KeyBits: 16, DataOff: at(0x8804040, 10)}, false},
		{"radix 9", Blockref{Type: TypeData, KeyBits: 16, DataOff: at(0x8804000, 9)}, false},
		{"radix 17", Blockref{Type: TypeData, KeyBits: 16, DataOff: at(0x8820000, 17)}, false},
		{"address without radix", Blockref{Type: TypeData, KeyBits: 16, DataOff: 0x8800000}, false},
		{"beyond 2^63", Blockref{Type: TypeData, KeyBits: 16, DataOff: at(1<<63, 10)}, false},
		{"data stored as autozero", Blockref{Type: TypeData, KeyBits: 16, Methods: 0x31, DataOff: at(0x8800000, 10)}, false},
		{"data with method 4", Blockref{Type: TypeData, KeyBits: 16, Methods: 0x34, DataOff: at(0x8800000, 10)}, false},
		{"data of 32 KiB of keys", Blockref{Type: TypeData, KeyBits: 15, DataOff: at(0x8800000, 10)}, false},
		{"entry", Blockref{Type: TypeDirent, Key: 0xd6e8905688708001}, true},
		{"entry on the hidden side", Blockref{Type: TypeDirent, Key: 0x56e8905688708001}, false},
		{"long entry", Blockref{Type: TypeDirent, Key: 1 << 63, DataOff: at(0x8800400, 10)}, true},
		{"leaf", Blockref{Type: TypeFreemapLeaf, KeyBits: 30, Methods: 0x50, DataOff: at(0x10000, 15)}, true},
		{"leaf of two zones", Blockref{Type: TypeFreemapLeaf, KeyBits: 31, DataOff: at(0x10000, 15)}, false},
		{"node", Blockref{Type: TypeFreemapNode, KeyBits: 38, DataOff: at(0x20000, 15)}, true},
		{"node of 39 bits", Blockref{Type: TypeFreemapNode, KeyBits: 39, DataOff: at(0x20000, 15)}, false},
		{"node of 64 KiB", Blockref{Type: TypeFreemapNode, KeyBits: 38, DataOff: at(0x20000, 16)}, false},
	} {
		err := c.r.Validate()
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func TestBlockArray(t *testing.T) {
	inode := func(key uint64) Blockref {
		return Blockref{Type: TypeInode, Key: key, DataOff: MakeDataOff(0x8800000+key<<10, 10)}
	}
	wide := Blockref{Type: TypeIndirect, Key: 16, KeyBits: 4, DataOff: MakeDataOff(0x9000000, 12)}
	for _, c := range []struct {
		what string
		refs []Blockref // EMPTY ones stay where they are
		bad  string     // "" or a part of the error
	}{
		{"none", []Blockref{{}, {}}, ""},
		{"gaps", []Blockref{{}, inode(1), {}, {}, inode(5), {}}, ""},
		{"mixed depth", []Blockref{inode(15), wide, inode(32)}, ""},
		{"equal keys", []Blockref{inode(1), {}, inode(1)}, "element 2"},
		{"descending", []Blockref{inode(2), inode(1)}, "element 1"},
		{"inside a range", []Blockref{wide, inode(31)}, "element 1"},
		{"unused marker", []Blockref{{Type: TypeInvalid}}, "element 0"},
		{"damaged", []Blockref{inode(1), {Type: 9, Key: 2}}, "element 1"},
		{"dirty gap", []Blockref{inode(1), {Flags: 1}}, "element 1"},
	} {
		b := make([]byte, len(c.refs)*BlockrefSize)
		var want []Blockref
		for i := range c.refs {
			c.refs[i].put(b[i*BlockrefSize:])
			if c.refs[i].Type != TypeEmpty {
				want = append(want, c.refs[i])
			}
		}
		got, err := DecodeBlockrefs(b)
		if c.bad != "" {
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%s: %v, want %q", c.what, err, c.bad)
			}
			continue
		}
		if err != nil || len(got) != len(want) {
			t.Errorf("%s: %d elements, %v", c.what, len(got), err)
			continue
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: element %d is %v", c.what, i, &got[i])
			}
		}
	}
	if _, err := DecodeBlockrefs(make([]byte, 130)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("130 bytes: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("an unsorted array was encoded")
		}
	}()
	EncodeBlockrefs(make([]byte, 512), []Blockref{inode(2), inode(1)})
}
