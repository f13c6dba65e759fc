package chain

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A batch in the intent log, all integers little-endian:
//
//	T 8, number of changes 4, then each change:
//	kind 1, flags 1 (1 = delete), inum 8, key 8, to 8, modify_tid 8, and unless deleted
//	  inode:  the first 512 bytes of the inode, length 2, inline content
//	  dirent: inum 8, type 1, length 1, name
//	  data:   radix 1, compression 1, check method 1, check code 64, the block
const (
	batchFixed  = 12
	changeFixed = 34
	direntFixed = 10
	blockFixed  = 3
)

// Loggable reports whether a batch can be stored in the intent log: leaf
// changes, and nothing that needs the tree.
func (b *Batch) Loggable() bool {
	shares := func(c Change) bool { return c.Share != nil || c.Twin }
	return len(b.Ops) == 0 && len(b.Touch) == 0 && !b.Discard && !slices.ContainsFunc(b.Changes, shares)
}

// encodedSize is the number of bytes that appendBatch adds.
func (b *Batch) encodedSize() int {
	n := batchFixed
	for i := range b.Changes {
		c := &b.Changes[i]
		n += changeFixed
		switch {
		case c.Delete:
		case c.Kind == KindInode:
			n += ondisk.InodeMetaSize + 2 + len(c.Inline)
		case c.Kind == KindDirent:
			n += direntFixed + len(c.Dirent.Name)
		default:
			n += blockFixed + len(c.Block.Code) + len(c.Block.Bytes)
		}
	}
	return n
}

// appendBatch appends a valid batch of leaf changes.
func appendBatch(to []byte, b *Batch) []byte {
	le := binary.LittleEndian
	to = le.AppendUint64(to, uint64(b.T))
	to = le.AppendUint32(to, uint32(len(b.Changes)))
	for i := range b.Changes {
		c := &b.Changes[i]
		flags := byte(0)
		if c.Delete {
			flags = 1
		}
		to = append(to, byte(c.Kind), flags)
		to = le.AppendUint64(to, c.Inum)
		to = le.AppendUint64(to, c.Key)
		to = le.AppendUint64(to, c.To)
		to = le.AppendUint64(to, uint64(c.ModifyTid))
		switch {
		case c.Delete:
		case c.Kind == KindInode:
			n := len(to)
			to = append(to, make([]byte, ondisk.InodeMetaSize)...)
			c.Inode.Encode(to[n:])
			to = le.AppendUint16(to, uint16(len(c.Inline)))
			to = append(to, c.Inline...)
		case c.Kind == KindDirent:
			to = le.AppendUint64(to, c.Dirent.Inum)
			to = append(to, byte(c.Dirent.Type), byte(len(c.Dirent.Name)))
			to = append(to, c.Dirent.Name...)
		default:
			to = append(to, c.Block.Radix, byte(c.Block.Comp), byte(c.Block.Check))
			to = append(to, c.Block.Code[:]...)
			to = append(to, c.Block.Bytes...)
		}
	}
	return to
}

// A batchReader takes fields off the front of a record's body.
type batchReader struct {
	rest  []byte
	short bool // more was asked for than there was
}

// take returns the next n bytes; zeros once there are not so many.
func (r *batchReader) take(n int) []byte {
	if len(r.rest) < n {
		r.short, r.rest = true, nil
		return make([]byte, n)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *batchReader) u8() uint8   { return r.take(1)[0] }
func (r *batchReader) u16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *batchReader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *batchReader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// decodeBatch reads what appendBatch wrote. It shares nothing with p, and
// checks each change and the codes of the blocks. Errors are ErrCorrupt or
// ErrBadBatch.
func decodeBatch(p []byte) (*Batch, error) {
	r := &batchReader{rest: p}
	b := &Batch{T: ondisk.Tid(r.u64())}
	count := int(r.u32())
	if count > len(r.rest)/changeFixed {
		return nil, damaged("a logged batch of %d bytes with %d changes", len(p), count)
	}
	b.Changes = make([]Change, 0, count)
	for range count {
		c, err := r.change()
		if err != nil {
			return nil, err
		}
		b.Changes = append(b.Changes, c)
	}
	if r.short || len(r.rest) > 0 {
		return nil, damaged("a logged batch of %d bytes has another length", len(p))
	}
	return b, b.Validate()
}

func (r *batchReader) change() (c Change, err error) {
	c.Kind = Kind(r.u8())
	flags := r.u8()
	c.Delete = flags == 1
	c.Inum, c.Key, c.To, c.ModifyTid = r.u64(), r.u64(), r.u64(), ondisk.Tid(r.u64())
	switch {
	case flags > 1 || c.Kind > KindData:
		return c, damaged("a logged change of kind %d with flags %#x", c.Kind, flags)
	case c.Delete:
	case c.Kind == KindInode:
		err = r.inode(&c)
	case c.Kind == KindDirent:
		c.Dirent.Key, c.Dirent.Inum = c.Key, r.u64()
		c.Dirent.Type = ondisk.ObjType(r.u8())
		c.Dirent.Name = string(r.take(int(r.u8())))
	default:
		err = r.block(&c)
	}
	if err != nil {
		return c, fmt.Errorf("logged change of inode %d, %v %#x: %w", c.Inum, c.Kind, c.Key, err)
	}
	return c, nil
}

func (r *batchReader) inode(c *Change) error {
	meta, err := ondisk.DecodeInodeMeta(r.take(ondisk.InodeMetaSize))
	if err != nil {
		return err
	}
	c.Inode = &meta
	n := int(r.u16())
	if n > ondisk.InlineMax {
		return damaged("%d bytes of inline content", n)
	}
	if n > 0 {
		c.Inline = slices.Clone(r.take(n))
	}
	return nil
}

func (r *batchReader) block(c *Change) error {
	b := &ondisk.EncodedBlock{Radix: r.u8(), Comp: ondisk.CompMethod(r.u8()), Check: ondisk.CheckMethod(r.u8())}
	copy(b.Code[:], r.take(len(b.Code)))
	if b.Radix < ondisk.MinRadix || b.Radix > ondisk.MaxRadix || len(r.rest) < 1<<b.Radix {
		return damaged("a block of radix %d in %d bytes", b.Radix, len(r.rest))
	}
	b.Bytes = ondisk.AlignedBuffer(1 << b.Radix)
	copy(b.Bytes, r.take(1<<b.Radix))
	c.Block = b
	return b.Validate()
}
