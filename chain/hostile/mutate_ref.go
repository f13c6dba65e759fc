package hostile

import (
	"encoding/binary"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// aim makes site s refer to dataOff. Loops cannot have right codes, so they
// are made of blocks without one.
func (im *Image) aim(s int, dataOff uint64, loop bool) {
	raw := im.element(s)
	put64(raw[refDataOff:], dataOff)
	if loop {
		raw[refMethods] = byte(ondisk.CheckDisabled)<<4 | raw[refMethods]&15
	}
	im.aimed[s] = true
	im.blame(s)
}

// blame says that what is below site s is not what it was.
func (im *Image) blame(s int) {
	if st := &im.p.sites[s]; st.to >= 0 {
		for pfs := range im.p.blocks[st.to].pfs {
			im.harmed[pfs] = true
		}
	}
}

func (im *Image) where(s int) string {
	st := &im.p.sites[s]
	return fmt.Sprintf("%v in block %#x", &st.ref, im.p.blocks[st.in].ref.Off())
}

func aimAtParent(im *Image) string {
	s := im.pickTable()
	if s < 0 {
		return ""
	}
	in := &im.p.blocks[im.p.sites[s].in].ref
	im.aim(s, in.DataOff, true)
	raw := im.element(s)
	raw[refType] = byte(in.Type)
	if in.Type == ondisk.TypeIndirect && im.rnd.IntN(2) == 0 {
		put64(raw[refKey:], in.Key) // so that the range fits
		raw[refKeyBits] = in.KeyBits
	}
	return im.where(s)
}

func aimAtAncestor(im *Image) string {
	s := im.pickTable()
	if s < 0 {
		return ""
	}
	n := im.p.sites[s].in
	for range 1 + im.rnd.IntN(4) {
		if up := im.p.blocks[n].sites; n != header && len(up) > 0 && im.p.sites[up[0]].in != header {
			n = im.p.sites[up[0]].in
		}
	}
	to := &im.p.blocks[n].ref
	im.aim(s, to.DataOff, true)
	im.element(s)[refType] = byte(to.Type)
	return fmt.Sprintf("%s at block %#x", im.where(s), to.Off())
}

// aimAtOther makes a cross link.
func aimAtOther(im *Image) string {
	s := im.pickAny()
	if s < 0 || im.p.sites[s].to < 0 {
		return ""
	}
	from := &im.p.sites[s]
	o := im.pick(func(x *site) bool {
		return x.ref.Type == from.ref.Type && x.to >= 0 && x.to != from.to && x.in != header
	})
	if o < 0 {
		return ""
	}
	to := &im.p.sites[o].ref
	raw := im.element(s)
	copy(raw[refCheck:], to.Check[:])
	raw[refMethods] = to.Methods
	im.aim(s, to.DataOff, im.p.sites[o].ref.Type != ondisk.TypeData)
	return fmt.Sprintf("%s at that of %v", im.where(s), to)
}

// copyElement puts another element in the place of one.
func copyElement(im *Image) string {
	s := im.pickAny()
	if s < 0 {
		return ""
	}
	o := im.pick(func(x *site) bool { return x.ref.Type < ondisk.TypeFreemapNode && x.in != header })
	if o < 0 {
		return ""
	}
	im.blame(s)
	im.p.sites[o].ref.Encode(im.element(s))
	im.aimed[s] = im.p.sites[o].ref.DataOff != 0 && im.dirty[im.p.sites[o].to] == nil
	return fmt.Sprintf("%s becomes %v", im.where(s), &im.p.sites[o].ref)
}

func aimAtOtherType(im *Image) string {
	s := im.pickAny()
	if s < 0 {
		return ""
	}
	o := im.pick(func(x *site) bool { return x.to >= 0 && x.ref.Type != im.p.sites[s].ref.Type })
	if o < 0 {
		return ""
	}
	to := &im.p.sites[o].ref
	im.aim(s, to.DataOff, true)
	return fmt.Sprintf("%s at %v", im.where(s), to)
}

func aimBeyond(im *Image) string {
	s := im.pickAny()
	if s < 0 || im.p.sites[s].to < 0 {
		return ""
	}
	end := im.p.loff[len(im.p.loff)-1] + uint64(im.p.devs[len(im.p.devs)-1].Size())
	r := &im.p.sites[s].ref
	off := []uint64{end, end + 1<<30, 1 << 40, 1 << 62}[im.rnd.IntN(4)] &^ (1<<16 - 1)
	im.aim(s, off|uint64(r.Radix()), true)
	return fmt.Sprintf("%s at %#x", im.where(s), off)
}

func aimAtReserved(im *Image) string {
	s := im.pickAny()
	if s < 0 || im.p.sites[s].to < 0 {
		return ""
	}
	off := uint64(im.rnd.IntN(64)) * ondisk.MaxBlock
	if end := im.p.loff[len(im.p.loff)-1]; end > 0 && im.rnd.IntN(2) == 0 {
		off += end // of the last volume
	}
	im.aim(s, off|uint64(im.p.sites[s].ref.Radix()), true)
	return fmt.Sprintf("%s at %#x", im.where(s), off)
}

func misalign(im *Image) string {
	s := im.pickAny()
	if s < 0 || im.p.sites[s].to < 0 {
		return ""
	}
	r := &im.p.sites[s].ref
	by := uint64(64) << im.rnd.IntN(9)
	im.aim(s, r.DataOff+by, im.rnd.IntN(2) == 0)
	return fmt.Sprintf("%s by %d", im.where(s), by)
}

func changeRadix(im *Image) string {
	s := im.pickAny()
	if s < 0 {
		return ""
	}
	radix := uint64(im.rnd.IntN(64))
	if im.rnd.IntN(2) == 0 {
		radix = 10 + radix%8
	}
	im.aim(s, im.p.sites[s].ref.DataOff&^63|radix, im.rnd.IntN(2) == 0)
	return fmt.Sprintf("%s to %d", im.where(s), radix)
}

func changeType(im *Image) string {
	s := im.pickAny()
	if s < 0 {
		return ""
	}
	types := []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 254, 255}
	t := types[im.rnd.IntN(len(types))]
	im.element(s)[refType] = t
	im.blame(s)
	return fmt.Sprintf("%s to %d", im.where(s), t)
}

func changeMethods(im *Image) string {
	s := im.pickAny()
	if s < 0 {
		return ""
	}
	raw := im.element(s)
	raw[refMethods] = byte(im.rnd.Uint32())
	if im.rnd.IntN(2) == 0 {
		raw[refMethods] = raw[refMethods]&0x3F | byte(im.rnd.IntN(4))
	}
	im.aimed[s] = im.p.sites[s].to >= 0 && im.dirty[im.p.sites[s].to] == nil
	im.blame(s)
	return fmt.Sprintf("%s to %#x", im.where(s), raw[refMethods])
}

func changeKeys(im *Image) string {
	s := im.pickAny()
	if s < 0 {
		return ""
	}
	raw := im.element(s)
	im.blame(s)
	switch im.rnd.IntN(4) {
	case 0:
		raw[refKeyBits] = byte(im.rnd.IntN(70))
	case 1:
		put64(raw[refKey:], im.number())
	case 2:
		put64(raw[refKey:], get64(raw[refKey:])^1<<im.rnd.IntN(64))
	default:
		raw[refKeyBits] = byte(im.rnd.IntN(65))
		if raw[refKeyBits] < 64 {
			put64(raw[refKey:], get64(raw[refKey:])&^(1<<raw[refKeyBits]-1))
		} else {
			put64(raw[refKey:], 0)
		}
	}
	return fmt.Sprintf("%s to %016x/%d", im.where(s), get64(raw[refKey:]), raw[refKeyBits])
}

// neighbours chooses two elements of one array, the first lower.
func (im *Image) neighbours() (a, b int) {
	b = im.pick(func(s *site) bool {
		return s.in != header && im.p.blocks[s.in].kids[0] != im.index(s) && s.ref.Type < ondisk.TypeFreemapNode
	})
	if b < 0 {
		return -1, -1
	}
	for _, k := range im.p.blocks[im.p.sites[b].in].kids {
		if k == b {
			break
		}
		a = k
	}
	return a, b
}

// index is the number of a site.
func (im *Image) index(s *site) int {
	for _, k := range im.p.blocks[s.in].kids {
		if &im.p.sites[k] == s {
			return k
		}
	}
	return -1
}

func swapElements(im *Image) string {
	a, b := im.neighbours()
	if a < 0 || im.aimed[a] || im.aimed[b] {
		return ""
	}
	ra, rb := im.element(a), im.element(b)
	for i := range ra {
		ra[i], rb[i] = rb[i], ra[i]
	}
	im.fixed(a, b)
	im.blame(a)
	im.blame(b)
	return fmt.Sprintf("%s and %s", im.where(a), im.where(b))
}

// fixed says that the codes in these elements are as they are to stay, unless
// what they refer to changes too.
func (im *Image) fixed(sites ...int) {
	for _, s := range sites {
		im.aimed[s] = im.p.sites[s].to >= 0
	}
}

func overlapElements(im *Image) string {
	a, b := im.neighbours()
	if a < 0 {
		return ""
	}
	ra, rb := im.element(a), im.element(b)
	copy(rb[refKey:refKey+8], ra[refKey:refKey+8])
	if rb[refType] == byte(ondisk.TypeIndirect) {
		rb[refKeyBits] = max(rb[refKeyBits], ra[refKeyBits])
	}
	im.blame(b)
	return fmt.Sprintf("%s with %v", im.where(b), &im.p.sites[a].ref)
}

func halfEmpty(im *Image) string {
	s := im.pickAny()
	if s < 0 {
		return ""
	}
	raw := im.element(s)
	raw[refType] = byte(ondisk.TypeEmpty)
	im.blame(s)
	return im.where(s)
}

func changeEmbed(im *Image) string {
	s := im.pickAny()
	if s < 0 {
		return ""
	}
	raw := im.element(s)
	if im.rnd.IntN(3) == 0 {
		binary.LittleEndian.PutUint16(raw[refLeaves:], uint16(im.number()))
	}
	put64(raw[refEmbed+8*im.rnd.IntN(2):], im.number())
	im.blame(s)
	return im.where(s)
}

func changeTids(im *Image) string {
	s := im.pick(func(s *site) bool { return s.ref.Type < ondisk.TypeFreemapNode })
	if s < 0 {
		return ""
	}
	raw := im.element(s)
	at := []int{refMirror, refModify}[im.rnd.IntN(2)]
	v := im.number()
	if im.rnd.IntN(2) == 0 {
		v = get64(raw[at:]) + 1 + uint64(im.rnd.IntN(3))
	}
	put64(raw[at:], v)
	return fmt.Sprintf("%s: %#x at %#x", im.where(s), v, at)
}

func scribbleElement(im *Image) string {
	s := im.pickAny()
	if s < 0 {
		return ""
	}
	im.scribble(im.element(s))
	im.blame(s)
	im.aimed[s] = im.rnd.IntN(2) == 0 && im.p.sites[s].to >= 0 && im.dirty[im.p.sites[s].to] == nil
	return im.where(s)
}

// wrongCode is the damage that codes are for.
func wrongCode(im *Image) string {
	s := im.pick(func(s *site) bool {
		return s.to >= 0 && s.in != header && s.ref.CheckMethod() >= ondisk.CheckISCSI32 && s.ref.Type < ondisk.TypeFreemapNode
	})
	if s < 0 {
		return ""
	}
	raw := im.element(s)
	raw[refCheck+im.rnd.IntN(4)] ^= 1 << im.rnd.IntN(8)
	im.wrong(s)
	return im.where(s)
}

// wrong keeps the code of an element from being put right.
func (im *Image) wrong(s int) {
	im.blame(s)
	im.kept[s] = true
}
