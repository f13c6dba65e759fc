package ondisk

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// Every decoder survives any bytes, and what it accepts encodes to the bytes
// it came from.

func FuzzDecodeBlockref(f *testing.F) {
	f.Add(make([]byte, BlockrefSize))
	r := Blockref{Type: TypeInode, Key: 1024, DataOff: MakeDataOff(0x8800c00, 10)}
	b := make([]byte, BlockrefSize)
	r.Encode(b)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeBlockref(b)
		if err != nil {
			return
		}
		_ = r.String()
		again := make([]byte, BlockrefSize)
		if r.Encode(again); !bytes.Equal(again, b[:BlockrefSize]) {
			t.Errorf("%v changes", &r)
		}
		if r.Type == TypeDirent {
			d, err := DecodeDirent(&r, make([]byte, NameBlock))
			if err == nil {
				if ref, _ := d.Blockref(); ref.Embed != r.Embed {
					t.Errorf("%+v changes", d)
				}
			}
		}
		if len(b) > BlockrefSize {
			_ = r.VerifyCheck(b[BlockrefSize:])
		}
	})
}

func FuzzDecodeBlockrefs(f *testing.F) {
	b := make([]byte, 4*BlockrefSize)
	EncodeBlockrefs(b, []Blockref{
		{Type: TypeInode, Key: 1, DataOff: MakeDataOff(0x8800c00, 10)},
		{Type: TypeDirent, Key: 1 << 63},
	})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		refs, err := DecodeBlockrefs(b)
		if err == nil {
			EncodeBlockrefs(make([]byte, len(b)), refs)
		}
	})
}

func FuzzDecodeDirent(f *testing.F) {
	f.Add([]byte("hello"), []byte{5, 0, 2}, []byte(nil), uint64(1))
	f.Fuzz(func(t *testing.T, name, embed, block []byte, key uint64) {
		r := Blockref{Type: TypeDirent, Key: key | DirBit}
		copy(r.Check[:], name)
		r.Embed[0] = 1
		copy(r.Embed[8:], embed)
		if block != nil {
			r.DataOff = MakeDataOff(0x8800000, MinRadix)
		}
		// The key of a good name, so that the rest is reached too.
		if n := int(binary.LittleEndian.Uint16(r.Embed[8:])); n <= len(name) {
			r.Key = NameHash(string(name[:n]))
		}
		d, err := DecodeDirent(&r, block)
		if err != nil {
			return
		}
		ref, again := d.Blockref()
		if ref.Embed != r.Embed || again == nil && ref.Check != r.Check || again != nil && !bytes.Equal(again, block) {
			t.Errorf("%+v changes", d)
		}
	})
}

func FuzzDecodeInodeMeta(f *testing.F) {
	b := make([]byte, InodeMetaSize)
	m := NewInodeMeta(7, ObjDir)
	m.Encode(b)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeInodeMeta(b)
		if err != nil {
			return
		}
		again := make([]byte, InodeMetaSize)
		if m.Encode(again); !bytes.Equal(again, b[:InodeMetaSize]) {
			t.Error("changes")
		}
		_ = m.Name()
		m.AtimeNs()
	})
}

func FuzzDecodeInode(f *testing.F) {
	b := make([]byte, InodeSize)
	ino := Inode{Meta: NewInodeMeta(7, ObjFile)}
	ino.Encode(b)
	f.Add(b)
	ino.Meta.OpFlags, ino.Meta.Size = OpDirectData, 5
	ino.Encode(b)
	f.Add(bytes.Clone(b))
	f.Fuzz(func(t *testing.T, b []byte) {
		ino, err := DecodeInode(b)
		if err != nil {
			return
		}
		again := make([]byte, InodeSize)
		if ino.Encode(again); ino.Meta.DirectData() && !bytes.Equal(again, b) {
			t.Error("changes")
		}
	})
}

func FuzzDecodeVolumeHeader(f *testing.F) {
	good := make([]byte, HeaderSize)
	newHeader().Encode(good)
	f.Add(0x28, []byte{1}, 0x200, []byte{2})
	f.Add(0x9000, []byte(markMagic+"123"), 0x9040, []byte{1})
	f.Fuzz(func(t *testing.T, at1 int, p1 []byte, at2 int, p2 []byte) {
		// Changes to a good header under right codes, so that they are read.
		b := bytes.Clone(good)
		for at, p := range map[int][]byte{at1: p1, at2: p2} {
			if at >= 0 && at < len(b) {
				copy(b[at:], p)
			}
		}
		for _, c := range headerCodes {
			binary.LittleEndian.PutUint32(b[c.at:], CRC32C(b[c.beg:c.end]))
		}
		h, err := DecodeVolumeHeader(b)
		if err != nil {
			return
		}
		again := make([]byte, HeaderSize)
		h.Encode(again)
		// Behind that, cluster states move together and an empty mark goes.
		if !bytes.Equal(again[volSroot:ourMark], b[volSroot:ourMark]) {
			t.Error("changes")
		}
	})
}

func FuzzDecodeFreemapLeaf(f *testing.F) {
	f.Add(0, []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, at int, p []byte) {
		b := make([]byte, FreemapBlockSize)
		if at >= 0 && at < len(b) {
			copy(b[at:], p)
		}
		leaf, err := DecodeFreemapLeaf(b)
		if err != nil {
			return
		}
		again := make([]byte, len(b))
		if EncodeFreemapLeaf(again, leaf); !bytes.Equal(again, b) {
			t.Error("changes")
		}
		leaf[0].FreeChunks()
	})
}

func FuzzDecodeXattrs(f *testing.F) {
	b, err := EncodeXattrs([]Xattr{{"user.a", []byte("1")}, {"user.b", nil}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		attrs, err := DecodeXattrs(b)
		if err != nil {
			return
		}
		if again, err := EncodeXattrs(attrs); err != nil || !bytes.Equal(again, b) {
			t.Errorf("changes: %v", err)
		}
	})
}

func FuzzDecodeData(f *testing.F) {
	for _, comp := range []CompMethod{CompNone, CompLZ4, CompZlib} {
		blk, _, err := EncodeData(sample(5000, true), uint8(comp), 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(blk.Bytes, uint8(blk.Comp), 65536)
	}
	f.Fuzz(func(t *testing.T, stored []byte, comp uint8, size int) {
		if len(stored) == 0 || len(stored) > MaxBlock || size < 0 || size > LogicalBlock {
			return
		}
		radix := DataRadix(len(stored))
		stored = append(stored, make([]byte, 1<<radix-len(stored))...)
		r := Blockref{Type: TypeData, KeyBits: LogicalBits, Methods: comp, DataOff: MakeDataOff(0x8800000, radix)}
		dst := make([]byte, size)
		n, err := DecodeData(&r, stored, dst)
		if n < 0 || n > size || err == nil && !allZero(dst[n:]) {
			t.Errorf("%d of %d bytes, %v", n, size, err)
		}
	})
}

func FuzzEncodeData(f *testing.F) {
	f.Add([]byte("x"), uint8(2), uint8(3))
	f.Add(sample(3000, true), uint8(2), uint8(3))
	f.Add(sample(3000, true), uint8(3), uint8(4))
	f.Fuzz(func(t *testing.T, p []byte, comp, check uint8) {
		blk, hole, err := EncodeData(p, comp, check)
		if err != nil || hole {
			return
		}
		dst := make([]byte, LogicalBlock)
		if n, err := DecodeData(dataRef(blk), blk.Bytes, dst); err != nil || n < len(p) || !bytes.Equal(dst[:len(p)], p) || !allZero(dst[len(p):]) {
			t.Errorf("comes back as %d bytes, %v", n, err)
		}
		blk.Release()
	})
}

func FuzzDecodeStateEntry(f *testing.F) {
	f.Add(bytes.Repeat([]byte{7}, lenState))
	f.Fuzz(func(t *testing.T, in []byte) {
		b := make([]byte, lenState)
		copy(b, in)
		e := DecodeStateEntry(b)
		again := make([]byte, lenState)
		if e.Encode(again); !bytes.Equal(again, b) {
			t.Errorf("%x encodes to %x", b, again)
		}
	})
}
