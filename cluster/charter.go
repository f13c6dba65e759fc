package cluster

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// CharterInum is the inode whose content is the charter. No entry names it.
const CharterInum = 2

// A Charter is what a cluster knows about itself: members and lineage.
type Charter = core.Charter

// An Op names an operation of another mount that was applied.
type Op = core.Op

// The encoding, all little-endian: magic, configuration version, flags, the
// five counts; then members, joint members, epochs, rollbacks, operations.
// It fits one block however long the cluster lives.
const (
	charterMagic  = "ANVCHAR1"
	charterHead   = 32
	charterJoint  = 1 // flag: a change of members is under way
	lenMember     = 64
	lenEpoch      = 32
	lenRollback   = 16
	lenOp         = 24
	maxMembers    = 64
	charterLength = charterHead + 2*maxMembers*lenMember + core.MaxMarks*(lenEpoch+lenRollback) + core.MaxOps*lenOp
)

// Compile error unless the longest charter fits a block.
var _ = [1]struct{}{}[charterLength/(ondisk.LogicalBlock+1)]

// EncodeCharter returns the content of the charter's inode. It panics on a
// charter that DecodeCharter would refuse.
func EncodeCharter(c *Charter) []byte {
	if err := validateCharter(c); err != nil {
		panic(err)
	}
	le := binary.LittleEndian
	b := append(make([]byte, 0, charterLength), charterMagic...)
	b = le.AppendUint32(b, c.Config.Version)
	var flags uint32
	if c.Config.Joint != nil {
		flags |= charterJoint
	}
	b = le.AppendUint32(b, flags)
	for _, n := range []int{len(c.Config.Members), len(c.Config.Joint), len(c.Lineage.Epochs), len(c.Lineage.Rollbacks), len(c.Ops)} {
		b = le.AppendUint16(b, uint16(n))
	}
	b = append(b, make([]byte, charterHead-len(b))...)
	for _, set := range [][]Member{c.Config.Members, c.Config.Joint} {
		for _, m := range set {
			b = append(b, m.Fsid[:]...)
			b = append(b, m.Replaces[:]...)
			b = append(b, m.Incarnation[:]...)
			b = le.AppendUint64(b, uint64(m.Acked))
			b = le.AppendUint64(b, uint64(m.Role))
		}
	}
	for _, m := range c.Lineage.Epochs {
		b = le.AppendUint64(b, uint64(m.Epoch)|uint64(m.Cand)<<32)
		b = le.AppendUint64(b, uint64(m.On.T))
		b = append(b, m.On.H[:]...)
	}
	for _, r := range c.Lineage.Rollbacks {
		b = le.AppendUint64(b, uint64(r.At))
		b = le.AppendUint64(b, uint64(r.To))
	}
	for _, op := range c.Ops {
		b = append(b, op.Mount[:]...)
		b = le.AppendUint64(b, op.Sequence)
	}
	return b
}

// DecodeCharter reads what EncodeCharter writes. Errors are
// ondisk.ErrCorrupt.
func DecodeCharter(b []byte) (*Charter, error) {
	le := binary.LittleEndian
	if len(b) < charterHead || string(b[:8]) != charterMagic {
		return nil, charterf("not a charter")
	}
	var c Charter
	c.Config.Version = le.Uint32(b[8:])
	flags := le.Uint32(b[12:])
	var n [5]int
	for i := range n {
		n[i] = int(le.Uint16(b[16+2*i:]))
	}
	want := charterHead + (n[0]+n[1])*lenMember + n[2]*lenEpoch + n[3]*lenRollback + n[4]*lenOp
	if len(b) != want || flags&^charterJoint != 0 || (flags != 0) != (n[1] != 0) || [6]byte(b[26:]) != [6]byte{} {
		return nil, charterf("%d bytes, flags %#x, counts %v", len(b), flags, n)
	}
	b = b[charterHead:]
	next := func(size int) []byte {
		rec := b[:size]
		b = b[size:]
		return rec
	}
	for i := range n[0] + n[1] {
		r := next(lenMember)
		role := le.Uint64(r[56:])
		if role > 15 {
			return nil, charterf("role %d", role)
		}
		m := Member{Fsid: ondisk.UUID(r), Replaces: ondisk.UUID(r[16:]), Incarnation: ondisk.UUID(r[32:]),
			Acked: ondisk.Tid(le.Uint64(r[48:])), Role: ondisk.PFSType(role)}
		if i < n[0] {
			c.Config.Members = append(c.Config.Members, m)
		} else {
			c.Config.Joint = append(c.Config.Joint, m)
		}
	}
	for range n[2] {
		r := next(lenEpoch)
		epoch := le.Uint64(r)
		if epoch>>31&1 != 0 {
			return nil, charterf("epoch %d", epoch)
		}
		c.Lineage.Epochs = append(c.Lineage.Epochs, EpochMark{Epoch: uint32(epoch), Cand: uint32(epoch >> 32),
			On: Position{T: ondisk.Tid(le.Uint64(r[8:])), H: History(r[16:])}})
	}
	for range n[3] {
		r := next(lenRollback)
		c.Lineage.Rollbacks = append(c.Lineage.Rollbacks, Rollback{At: ondisk.Tid(le.Uint64(r)), To: ondisk.Tid(le.Uint64(r[8:]))})
	}
	for range n[4] {
		r := next(lenOp)
		c.Ops = append(c.Ops, Op{Mount: ondisk.UUID(r), Sequence: le.Uint64(r[16:])})
	}
	return &c, validateCharter(&c)
}

// ReadMembers reads who belongs to the cluster of a tree, or is about to; nobody
// does to a tree that is not clustered.
func ReadMembers(ctx context.Context, v *chain.View) (fsids []ondisk.UUID, err error) {
	law, err := readCharter(ctx, v)
	if err != nil || law == nil {
		return nil, err
	}
	for _, m := range slices.Concat(law.Config.Members, law.Config.Joint) {
		if !slices.Contains(fsids, m.Fsid) {
			fsids = append(fsids, m.Fsid)
		}
	}
	return fsids, nil
}

func charterf(format string, args ...any) error {
	return fmt.Errorf("charter: "+format+": %w", append(args, ondisk.ErrCorrupt)...)
}

func validateCharter(c *Charter) error {
	for _, set := range [][]Member{c.Config.Members, c.Config.Joint} {
		if len(set) > maxMembers {
			return charterf("%d members", len(set))
		}
		for i, m := range set {
			if m.Fsid.IsZero() || !validRole(m.Role) {
				return charterf("member %v, role %v", m.Fsid, m.Role)
			}
			for _, o := range set[:i] {
				if o.Fsid == m.Fsid {
					return charterf("member %v twice", m.Fsid)
				}
			}
		}
	}
	if len(core.Masters(c.Config.Members)) == 0 {
		return charterf("no master")
	}
	if c.Config.Joint != nil && len(core.Masters(c.Config.Joint)) == 0 {
		return charterf("no master before the change")
	}
	if len(c.Lineage.Epochs) > core.MaxMarks || len(c.Lineage.Rollbacks) > core.MaxMarks || len(c.Ops) > core.MaxOps {
		return charterf("too long")
	}
	for i, m := range c.Lineage.Epochs {
		if m.On.T.Epoch() >= m.Epoch || i > 0 && m.On.T < ondisk.MakeTid(c.Lineage.Epochs[i-1].Epoch, 0) {
			return charterf("epoch %d on %v", m.Epoch, m.On.T)
		}
	}
	for i, r := range c.Lineage.Rollbacks {
		if r.To >= r.At || i > 0 && r.At <= c.Lineage.Rollbacks[i-1].At {
			return charterf("rollback at %v to %v", r.At, r.To)
		}
	}
	return nil
}

func validRole(r ondisk.PFSType) bool {
	switch r {
	case ondisk.PFSCache, ondisk.PFSSlave, ondisk.PFSSoftSlave, ondisk.PFSSoftMaster, ondisk.PFSMaster:
		return true
	}
	return false
}

// charterBatch is the txg that stores a charter and nothing else. Its bytes
// are a function of its arguments.
func charterBatch(T ondisk.Tid, c *Charter) *chain.Batch {
	content := EncodeCharter(c)
	meta := ondisk.NewInodeMeta(CharterInum, ondisk.ObjFile)
	meta.Mode, meta.Nlinks, meta.Iparent = 0o600, 1, ondisk.InumRoot
	meta.Size = uint64(len(content))
	meta.CompAlgo, meta.CheckAlgo = uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64)
	block, _, err := ondisk.EncodeData(content, meta.CompAlgo, meta.CheckAlgo)
	if err != nil {
		panic(err) // our own settings
	}
	return &chain.Batch{T: T, Changes: []chain.Change{
		{Inum: CharterInum, Kind: chain.KindInode, Inode: &meta},
		{Inum: CharterInum, Kind: chain.KindData, Block: block},
	}}
}

// readCharter returns the charter of a PFS, nil if there is none.
func readCharter(ctx context.Context, v *chain.View) (*Charter, error) {
	in, ok, err := v.Inode(ctx, CharterInum)
	if err != nil || !ok {
		return nil, err
	}
	if in.Meta.Size > charterLength {
		return nil, charterf("%d bytes", in.Meta.Size)
	}
	b := make([]byte, in.Meta.Size)
	if err := v.ReadData(ctx, CharterInum, 0, b); err != nil {
		return nil, err
	}
	if len(b) < len(charterMagic) || string(b[:len(charterMagic)]) != charterMagic {
		return nil, nil // a file of a PFS that others numbered
	}
	return DecodeCharter(b)
}

// Size is how many members the cluster has that a PFS of a volume is a copy of;
// 0 = it is of none.
func Size(ctx context.Context, v *chain.Volume, label string) (int, error) {
	view, err := v.View(ctx, label)
	if err != nil {
		return 0, err
	}
	defer view.Release()
	c, err := readCharter(ctx, view)
	if err != nil || c == nil {
		return 0, err
	}
	return len(c.Config.Members), nil
}
