package cluster

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Manifest is a hash over what a batch changes: keys, tids, records, operations, and of
// data blocks the size, methods and check code, and, if they are shared, where
// they come from. Blocks without a check code
// go in as a whole. The batch must be sorted.
func Manifest(b *chain.Batch) [32]byte {
	h := sha256.New()
	buf := make([]byte, 0, 2048)
	le := binary.LittleEndian
	for i := range b.Changes {
		c := &b.Changes[i]
		buf = append(buf[:0], byte(c.Kind), 0)
		if c.Delete {
			buf[1] = 1
		}
		buf = le.AppendUint64(buf, c.Inum)
		buf = le.AppendUint64(buf, c.Key)
		buf = le.AppendUint64(buf, c.To)
		buf = le.AppendUint64(buf, uint64(c.ModifyTid))
		switch {
		case c.Delete:
		case c.Kind == chain.KindInode:
			n := len(buf)
			buf = append(buf, make([]byte, ondisk.InodeMetaSize)...)
			c.Inode.Encode(buf[n:])
			buf = append(buf, c.Inline...)
		case c.Kind == chain.KindDirent:
			buf = le.AppendUint64(buf, c.Dirent.Inum)
			buf = append(buf, byte(c.Dirent.Type))
			buf = append(buf, c.Dirent.Name...)
		case c.Share != nil:
			buf = shareManifest(buf, c.Share)
		default:
			buf = append(buf, c.Block.Radix, byte(c.Block.Comp), byte(c.Block.Check))
			buf = append(buf, c.Block.Code[:]...)
			if c.Block.Check == ondisk.CheckNone || c.Block.Check == ondisk.CheckDisabled {
				buf = append(buf, c.Block.Bytes...)
			}
		}
		var size [4]byte
		le.PutUint32(size[:], uint32(len(buf)))
		h.Write(size[:])
		h.Write(buf)
	}
	for _, t := range b.Touch {
		buf = le.AppendUint64(buf[:0], t.Inum)
		buf = le.AppendUint64(buf, t.Lo)
		buf = le.AppendUint64(buf, t.Hi)
		h.Write(buf)
	}
	for i := range b.Ops {
		h.Write(opManifest(buf[:0], &b.Ops[i]))
	}
	return [32]byte(h.Sum(nil))
}

// shareManifest appends what a change shares, behind a mark that no radix is.
func shareManifest(buf []byte, s *chain.Share) []byte {
	buf = append(buf, 0xff, s.Radix, byte(s.Comp), byte(s.Check))
	buf = append(buf, s.Code[:]...)
	for _, n := range []uint64{s.Inum, s.Key, uint64(s.ModifyTid)} {
		buf = binary.LittleEndian.AppendUint64(buf, n)
	}
	if s.Snap != "" {
		buf = append(append(buf, s.SnapClid[:]...), s.Snap...)
	}
	return buf
}

// opManifest appends an operation, behind a mark that no change begins with:
// theirs is their length.
func opManifest(buf []byte, op *chain.PFSOp) []byte {
	buf = append(buf, 0xff, 0xff, 0xff, 0xff, byte(op.Kind), byte(flagIf(op.Auto, snapAuto)), byte(len(op.Name)))
	buf = append(append(buf, op.Clid[:]...), op.Name...)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(op.To))
	c := op.Clone
	if c == nil {
		return buf
	}
	buf = append(append(append(buf, byte(len(c.Label))), c.Label...), c.Clid[:]...)
	for i := range c.Nodes {
		buf = append(buf, c.Nodes[i][:]...)
	}
	if c.First != nil {
		m := Manifest(c.First)
		buf = append(binary.LittleEndian.AppendUint64(buf, uint64(c.First.T)), m[:]...)
	}
	if e := c.State; e != nil {
		buf = append(binary.LittleEndian.AppendUint64(buf, uint64(e.T)), e.H[:]...)
	}
	return buf
}

// batchSize estimates the memory that a batch holds.
func batchSize(b *chain.Batch) int64 {
	size := int64(64)
	for i := range b.Changes {
		c := &b.Changes[i]
		size += 128 + int64(len(c.Inline)+len(c.Dirent.Name))
		if c.Inode != nil {
			size += ondisk.InodeMetaSize
		}
		if c.Share != nil {
			size += 128
		}
		if c.Block != nil {
			size += int64(len(c.Block.Bytes))
		}
	}
	return size
}
