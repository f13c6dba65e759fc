package ondisk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
)

func dataRef(blk *EncodedBlock) *Blockref {
	r := &Blockref{DataOff: MakeDataOff(0x8800000, blk.Radix)}
	blk.SetRef(r)
	return r
}

// Every length around a power of two, with every setting, comes back; stored
// blocks obey section 10 and 11 of the format.
func TestEncodeDataRoundTrip(t *testing.T) {
	var lengths []int
	for r := uint(0); r <= 16; r++ {
		for _, n := range []int{1<<r - 1, 1 << r, 1<<r + 1} {
			if n >= 1 && n <= LogicalBlock {
				lengths = append(lengths, n)
			}
		}
	}
	dst := make([]byte, LogicalBlock)
	for _, n := range lengths {
		for _, text := range []bool{true, false} {
			p := sample(n, text)
			for comp := CompNone; comp <= CompZlib; comp++ {
				what := fmt.Sprintf("%d bytes, text %v, %v", n, text, comp)
				blk, hole, err := EncodeData(p, uint8(comp), uint8(CheckXXHash64))
				if err != nil || hole {
					t.Fatalf("%s: hole %v, %v", what, hole, err)
				}
				r := dataRef(blk)
				if err := errors.Join(r.Validate(), blk.Validate(), r.VerifyCheck(blk.Bytes)); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				plain := DataRadix(n)
				if blk.Radix > plain || blk.Comp != CompNone && blk.Radix >= plain || len(blk.Bytes) != 1<<blk.Radix {
					t.Errorf("%s: stored by %v with radix %d, plain %d", what, blk.Comp, blk.Radix, plain)
				}
				if blk.Comp == CompLZ4 {
					if used := 4 + int(binary.LittleEndian.Uint32(blk.Bytes)); used > 1<<plain/2-4 || !allZero(blk.Bytes[used:]) {
						t.Errorf("%s: LZ4 uses %d of %d bytes", what, used, 1<<plain)
					}
				}
				if text && n >= 8192 && comp > CompAutoZero && blk.Comp != comp {
					t.Errorf("%s: stored by %v", what, blk.Comp)
				}
				dst[len(dst)-1] = 1
				got, err := DecodeData(r, blk.Bytes, dst)
				if err != nil || got != 1<<plain || !bytes.Equal(dst[:n], p) || !allZero(dst[n:]) {
					t.Fatalf("%s: comes back as %d bytes, %v", what, got, err)
				}
				short := make([]byte, n) // what a caller needs of a short file
				if got, err := DecodeData(r, blk.Bytes, short); err != nil || got != n || !bytes.Equal(short, p) {
					t.Fatalf("%s: into its own length: %d, %v", what, got, err)
				}
				blk.Release()
			}
		}
	}
}

func TestDataRadix(t *testing.T) {
	for n, want := range map[int]uint8{
		1: 10, 1024: 10, 1025: 11, 2048: 11, 2049: 12, 4096: 12, 4097: 13, 8193: 14, 16385: 15, 32768: 15, 32769: 16, 65536: 16,
	} {
		if got := DataRadix(n); got != want {
			t.Errorf("%d bytes: radix %d, want %d", n, got, want)
		}
	}
}

// Format section 10: holes, and when zeros are stored.
func TestEncodeDataZeros(t *testing.T) {
	for comp := CompNone; comp <= CompZlib; comp++ {
		for check := CheckNone; check <= CheckFreemap; check++ {
			blk, hole, err := EncodeData(make([]byte, 5000), uint8(comp), uint8(check))
			want := comp != CompNone && check != CheckNone
			if err != nil || hole != want || (blk == nil) != want {
				t.Errorf("%v, %v: hole %v, %v", comp, check, hole, err)
			}
		}
	}
	p := make([]byte, LogicalBlock)
	p[len(p)-1] = 1
	if _, hole, err := EncodeData(p, uint8(CompLZ4), uint8(CheckXXHash64)); hole || err != nil {
		t.Errorf("one byte at the end: hole %v, %v", hole, err)
	}
}

func TestEncodeDataErrors(t *testing.T) {
	for _, c := range []struct {
		n           int
		comp, check uint8
	}{{0, 0, 3}, {LogicalBlock + 1, 0, 3}, {1, 4, 3}, {1, 0, 6}} {
		if _, _, err := EncodeData(make([]byte, c.n), c.comp, c.check); err == nil {
			t.Errorf("%+v: accepted", c)
		}
	}
	// The level in the high nibble is no other setting.
	blk, _, err := EncodeData(sample(65536, true), 9<<4|uint8(CompZlib), uint8(CheckXXHash64))
	if err != nil || blk.Comp != CompZlib {
		t.Errorf("level 9: %v", err)
	}
}

// Format section 26: a block made by another implementation.
func TestDecodeLZ4Vector(t *testing.T) {
	stored := make([]byte, 1024)
	b, err := hex.DecodeString("0f0000002f780001" + "00ffffffe9500000000000")
	if err != nil {
		t.Fatal(err)
	}
	copy(stored, b)
	r := &Blockref{Type: TypeData, KeyBits: 16, Methods: 0x32, DataOff: MakeDataOff(0x08cc9000, 10)}
	dst := make([]byte, LogicalBlock)
	if n, err := DecodeData(r, stored, dst); err != nil || n != 1024 || dst[0] != 'x' || !allZero(dst[1:]) {
		t.Errorf("%d bytes, %v, %q", n, err, dst[:4])
	}
}

func TestDecodeDataDamaged(t *testing.T) {
	text := sample(65536, true)
	blockOf := func(comp CompMethod) *EncodedBlock {
		blk, _, err := EncodeData(text, uint8(comp), uint8(CheckXXHash64))
		if err != nil {
			t.Fatal(err)
		}
		return blk
	}
	lz4, zlib := blockOf(CompLZ4), blockOf(CompZlib)
	length := func(n uint32) func(b []byte) {
		return func(b []byte) { binary.LittleEndian.PutUint32(b, n) }
	}
	for _, c := range []struct {
		what   string
		blk    *EncodedBlock
		damage func(b []byte)
	}{
		{"LZ4 length 0", lz4, length(0)},
		{"LZ4 length 4 GiB", lz4, length(1<<32 - 1)},
		{"LZ4 length of the block", lz4, length(uint32(len(lz4.Bytes)) - 3)},
		{"zlib header", zlib, func(b []byte) { b[0] = 0 }},
		{"zlib sum", zlib, func(b []byte) {
			end := len(bytes.TrimRight(b, "\x00"))
			b[end-1] ^= 0x55
		}},
		{"zlib cut off", zlib, func(b []byte) { clear(b[100:]) }},
	} {
		bad := bytes.Clone(c.blk.Bytes)
		c.damage(bad)
		if _, err := DecodeData(dataRef(c.blk), bad, make([]byte, LogicalBlock)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	// More than a logical block: a stream of zeros that would go on for long.
	out := make([]byte, 4096)
	n := compressZlib(out, make([]byte, 1<<20), len(out), 0)
	if n == 0 {
		t.Fatal("zeros do not compress")
	}
	r := &Blockref{Type: TypeData, KeyBits: 16, Methods: 0x33, DataOff: MakeDataOff(0x8800000, 12)}
	if _, err := DecodeData(r, out, make([]byte, LogicalBlock)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a megabyte in a block: %v", err)
	}
	if _, err := DecodeData(r, out[:1024], make([]byte, LogicalBlock)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a short read: %v", err)
	}
}

func TestEncodedBlockValidate(t *testing.T) {
	blk, _, err := EncodeData(sample(5000, false), 0, uint8(CheckXXHash64))
	if err != nil {
		t.Fatal(err)
	}
	if err := blk.Validate(); err != nil {
		t.Error(err)
	}
	for what, b := range map[string]EncodedBlock{
		"code":   {Bytes: blk.Bytes, Radix: blk.Radix, Check: blk.Check},
		"radix":  {Bytes: blk.Bytes, Radix: blk.Radix - 1, Check: blk.Check, Code: blk.Code},
		"method": {Bytes: blk.Bytes, Radix: blk.Radix, Comp: CompAutoZero, Check: blk.Check, Code: blk.Code},
	} {
		if err := b.Validate(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("wrong %s: %v", what, err)
		}
	}
	if !Aligned(blk.Bytes) {
		t.Error("not aligned")
	}
}
