package ondisk

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// sample returns n bytes that compress about as well as program text, or not
// at all.
func sample(n int, text bool) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 0, n+16)
	for len(b) < n {
		if text {
			b = fmt.Appendf(b, "inode %d block ", rng.IntN(1000))
		} else {
			b = append(b, byte(rng.Uint32()))
		}
	}
	return b[:n]
}

func BenchmarkEncodeData(b *testing.B) {
	for _, c := range []struct {
		name string
		p    []byte
		comp CompMethod
	}{
		{"text64K/lz4", sample(65536, true), CompLZ4},
		{"text64K/zlib", sample(65536, true), CompZlib},
		{"text64K/none", sample(65536, true), CompNone},
		{"random64K/lz4", sample(65536, false), CompLZ4},
		{"text4K/lz4", sample(4096, true), CompLZ4},
		{"text3000/lz4", sample(3000, true), CompLZ4},
		{"zero64K/lz4", make([]byte, 65536), CompLZ4},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.p)))
			b.ReportAllocs()
			for b.Loop() {
				blk, _, err := EncodeData(c.p, uint8(c.comp), uint8(CheckXXHash64))
				if err != nil {
					b.Fatal(err)
				}
				if blk != nil {
					blk.Release()
				}
			}
		})
	}
}

func BenchmarkDecodeData(b *testing.B) {
	for _, comp := range []CompMethod{CompNone, CompLZ4, CompZlib} {
		for _, size := range []int{4096, 65536} {
			b.Run(fmt.Sprintf("%v/%d", comp, size), func(b *testing.B) {
				blk, _, err := EncodeData(sample(size, true), uint8(comp), uint8(CheckXXHash64))
				if err != nil {
					b.Fatal(err)
				}
				var r Blockref
				blk.SetRef(&r)
				r.DataOff = MakeDataOff(1<<23, blk.Radix)
				dst := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := DecodeData(&r, blk.Bytes, dst); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	block := sample(65536, false)
	for m := CheckISCSI32; m <= CheckSHA192; m++ {
		b.Run(m.String(), func(b *testing.B) {
			b.SetBytes(int64(len(block)))
			b.ReportAllocs()
			r := Blockref{Type: TypeData, KeyBits: LogicalBits, DataOff: MakeDataOff(1<<23, MaxRadix)}
			r.SetMethods(m, CompNone)
			r.SetCheck(block)
			for b.Loop() {
				if err := r.VerifyCheck(block); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecodeBlockrefs(b *testing.B) {
	refs := make([]Blockref, 128)
	for i := range refs {
		refs[i] = Blockref{Type: TypeInode, Key: uint64(i), DataOff: MakeDataOff(uint64(i+1)<<23, MinRadix)}
	}
	block := make([]byte, len(refs)*BlockrefSize)
	EncodeBlockrefs(block, refs)
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeBlockrefs(block); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			EncodeBlockrefs(block, refs)
		}
	})
}

func BenchmarkNameHash(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		NameHash("linux-6.18/drivers/net_ethernet.Makefile")
	}
}

func BenchmarkInode(b *testing.B) {
	m := NewInodeMeta(4711, ObjFile)
	block := make([]byte, InodeMetaSize)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Encode(block)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeInodeMeta(block); err != nil {
				b.Fatal(err)
			}
		}
	})
}
