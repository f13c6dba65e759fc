package ondisk

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for v := range 256 {
		if b := BlockType(v); v <= int(TypeInvalid) {
			if got, err := ParseBlockType(b.String()); err != nil || got != b {
				t.Errorf("block type %d: %q, %v", v, b, err)
			}
		} else if !strings.HasPrefix(b.String(), "unknown(") {
			t.Errorf("block type %d is %q", v, b)
		}
		check := func(name string, back uint8, err error) {
			if strings.HasPrefix(name, "unknown(") {
				if err == nil {
					t.Errorf("%q parses", name)
				}
			} else if err != nil || int(back) != v {
				t.Errorf("%q: %d, %v", name, back, err)
			}
		}
		o, err := ParseObjType(ObjType(v).String())
		check(ObjType(v).String(), uint8(o), err)
		p, err := ParsePFSType(PFSType(v).String())
		check(PFSType(v).String(), uint8(p), err)
		m, err := ParseCheckMethod(CheckMethod(v).String())
		check(CheckMethod(v).String(), uint8(m), err)
		c, err := ParseCompMethod(CompMethod(v).String())
		check(CompMethod(v).String(), uint8(c), err)
	}
	if ObjUnknown.String() != "unknown" {
		t.Errorf("object type 0 is %q", ObjUnknown)
	}
	if _, err := ParseCompMethod(""); err == nil {
		t.Error("an empty name parses")
	}
	if _, err := ParseCompMethod("zstd"); err == nil || !strings.Contains(err.Error(), "lz4") {
		t.Errorf("zstd: %v, want the names that are known", err)
	}
}

func TestTid(t *testing.T) {
	tid := MakeTid(3, 17)
	if tid != 3<<32|17 || tid.Epoch() != 3 || tid.Seq() != 17 || tid.String() != "3:17" {
		t.Errorf("%d %v", uint64(tid), tid)
	}
	if back, err := ParseTid("3:17"); err != nil || back != tid {
		t.Errorf("%v, %v", back, err)
	}
	for _, s := range []string{"", "3", "3:", ":17", "3:4294967296", "-1:1", "x:1"} {
		if _, err := ParseTid(s); err == nil {
			t.Errorf("%q parses", s)
		}
	}
}

func TestUUID(t *testing.T) {
	// Format section 3.
	want := UUID{0xd1, 0x9a, 0xbb, 0x5c, 0x2d, 0x86, 0xdc, 0x11, 0xa9, 0x4d, 0x01, 0x30, 0x1b, 0xb8, 0xa9, 0xf5}
	if FSType != want || want.String() != "5cbb9ad1-862d-11dc-a94d-01301bb8a9f5" {
		t.Errorf("% x, %v", FSType, want)
	}
	for _, s := range []string{"", "5cbb9ad1862d11dca94d01301bb8a9f5", "5cbb9ad1-862d-11dc-a94d-01301bb8a9fg"} {
		if _, err := ParseUUID(s); err == nil {
			t.Errorf("%q parses", s)
		}
	}
	a, b := NewUUID(), NewUUID()
	if a == b || a.IsZero() || !(UUID{}).IsZero() || a.String()[14] != '4' {
		t.Errorf("%v, %v", a, b)
	}
	if back, err := ParseUUID(a.String()); err != nil || back != a {
		t.Errorf("%v: %v, %v", a, back, err)
	}
}

// Format section 9.
func TestNameHash(t *testing.T) {
	for name, want := range map[string]uint64{
		"a":                       0xc1d0433082e08000,
		"hello":                   0x9a71bb4c213d8000,
		"a.txt":                   0xfe47183a3da38000,
		".hidden":                 0xc207c7971b5c8000,
		"a.b-c_d~e":               0xafa85316bbc78000,
		"...":                     0x80000000bf988000,
		"0123456789":              0xa80c069e2e928000,
		"Makefile":                0xbcf8341588ed8000,
		"libfoo.so.1":             0x89e2ff37045f8000,
		"README.md":               0xe0ef94bfd0c58000,
		"日本語":                     0xfda0ed7010d08000,
		strings.Repeat("x", 64):   0xdbc7ef6334a48000,
		"DATA":                    0xc78fff92381d8000,
		"LOCAL":                   0xde25e1c43fe18000,
		"ROOT":                    0xb0d7dddc6d0b8000,
		"cb.ce.cf.cg.cc.ca.cd.ch": 0xe938e8ade4498000,
		"ca.cb.cd.ce.cg.cf.ch.cc": 0xe938e8ade4498000,
	} {
		if got := NameHash(name); got != want {
			t.Errorf("%s: %016x, want %016x", name, got, want)
		}
	}
	NameHash("") // no name, but no reason to crash
}

func TestDirent(t *testing.T) {
	for _, n := range []int{1, 63, 64, 65, 254, 255} {
		name := strings.Repeat("n", n)
		d := Dirent{Key: NameHash(name) + 1, Inum: 0x40b, Type: ObjFile, Name: name}
		ref, block := d.Blockref()
		if (n > 64) != (len(block) == 1024) {
			t.Errorf("%d: block of %d bytes", n, len(block))
		}
		if block != nil {
			ref.DataOff = MakeDataOff(0x8800000, MinRadix)
		}
		got, err := DecodeDirent(&ref, block)
		if err != nil || got != d {
			t.Errorf("%d: %+v, %v", n, got, err)
		}
	}
}

func TestDirentInvalid(t *testing.T) {
	for what, change := range map[string]func(r *Blockref){
		"wrong type":    func(r *Blockref) { r.Type = TypeData },
		"too long":      func(r *Blockref) { r.Embed[9] = 1 },
		"no name":       func(r *Blockref) { r.Embed[8] = 0; r.Check = [64]byte{} },
		"wrong hash":    func(r *Blockref) { r.Key ^= 1 << 40 },
		"padding":       func(r *Blockref) { r.Check[40] = 1 },
		"embed":         func(r *Blockref) { r.Embed[12] = 1 },
		"no inode":      func(r *Blockref) { r.Embed[0] = 0 },
		"type 3":        func(r *Blockref) { r.Embed[10] = 3 },
		"slash":         func(r *Blockref) { r.Check[1] = '/' },
		"needless":      func(r *Blockref) { r.DataOff = MakeDataOff(0x8800000, MinRadix) },
		"block is gone": func(r *Blockref) { r.Embed[8] = 65 },
	} {
		d := Dirent{Key: NameHash("hello"), Inum: 7, Type: ObjFile, Name: "hello"}
		ref, _ := d.Blockref()
		change(&ref)
		if _, err := DecodeDirent(&ref, nil); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("an entry named .. was encoded")
		}
	}()
	d := Dirent{Key: NameHash(".."), Inum: 7, Type: ObjDir, Name: ".."}
	d.Blockref()
}
