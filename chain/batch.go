package chain

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// ErrBadBatch: a batch breaks the rules of Batch. It is a bug of its maker,
// or a batch meant for another state; nothing of it was applied.
var ErrBadBatch = errors.New("malformed batch")

// Kind says which leaf of an inode a Change is about. The order is that of
// application: an inode comes before what hangs below it.
type Kind uint8

// The kinds of leaf changes.
const (
	KindInode Kind = iota
	KindDirent
	KindData
)

var kindNames = [...]string{"inode", "dirent", "data"}

// String returns the lower-case name of the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("unknown(%d)", uint8(k))
}

// A Change is one leaf change of a PFS: the same on every node, since
// addresses and tables are each node's own. It is immutable once it is in a
// batch that was handed over, and so is all it points at.
type Change struct {
	Inum uint64
	Kind Kind
	Key  uint64 // Dirent: the entry's key; Data: byte offset, multiple of 64 KiB; Inode: 0

	// Delete removes the inode with everything below it, the entry, or the
	// blocks of [Key, To). Of what is not there it is a no-op.
	Delete bool
	To     uint64 // Data with Delete only; 0 = just the block at Key

	// ModifyTid goes into the leaf's blockref; 0 = the batch's T.
	ModifyTid ondisk.Tid

	Inode  *ondisk.InodeMeta    // KindInode
	Inline []byte               // KindInode with DIRECTDATA: at most 512 bytes, the rest is zero
	Dirent ondisk.Dirent        // KindDirent
	Block  *ondisk.EncodedBlock // KindData
	Share  *Share               // KindData, instead of Block
	Twin   bool                 // changes of the batch with the same Block, by address, write it once
}

// A Touch stamps tables: every table of inode Inum that holds keys of [Lo, Hi]
// gets the batch's T, changed or not, and so does the inode. For inode 1, keys
// with bit 63 clear are the inode index. An inode that is not there is passed over.
type Touch struct {
	Inum, Lo, Hi uint64
}

// A Batch is a set of leaf changes that are applied as one, with tid T. Sort
// orders Changes by (Inum, Kind, Key), and there is at most one for each such
// triple, except that a Delete range and a set may start at the same key.
// Deletes of an inode's data take effect before its sets, whatever their
// order.
type Batch struct {
	T       ondisk.Tid
	Changes []Change
	Touch   []Touch
	Ops     []PFSOp // carried out after the changes, in this order

	// Discard replaces damaged tables and inodes that the changes meet by what
	// the changes bring, instead of failing. Only for what Diff made of a
	// sound source: it has all that was in them.
	Discard bool

	// Log asks that the batch goes into the intent log, if the node has one: it
	// is small and someone waits. It says nothing about the content.
	Log bool
}

func compareChanges(a, b *Change) int {
	if c := cmp.Compare(a.Inum, b.Inum); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Kind, b.Kind); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Key, b.Key); c != 0 {
		return c
	}
	switch {
	case a.Delete == b.Delete:
		return 0
	case a.Delete:
		return -1
	}
	return 1
}

// Sort brings the changes and touches into the order of application.
func (b *Batch) Sort() {
	inOrder := func(i int) bool { return compareChanges(&b.Changes[i-1], &b.Changes[i]) <= 0 }
	for i := 1; i < len(b.Changes); i++ {
		if !inOrder(i) {
			slices.SortFunc(b.Changes, func(x, y Change) int { return compareChanges(&x, &y) })
			break
		}
	}
	slices.SortFunc(b.Touch, func(x, y Touch) int {
		return cmp.Or(cmp.Compare(x.Inum, y.Inum), cmp.Compare(x.Lo, y.Lo), cmp.Compare(x.Hi, y.Hi))
	})
}

// Validate checks what can be checked without the tree: order, uniqueness,
// and each change by itself. Errors are ErrBadBatch and name the change.
func (b *Batch) Validate() error {
	if b.T == 0 || b.T>>63 != 0 {
		return fmt.Errorf("%w: tid %v", ErrBadBatch, b.T)
	}
	for i := range b.Changes {
		c := &b.Changes[i]
		if err := c.validate(); err != nil {
			return c.bad("%w", err)
		}
		if i == 0 {
			continue
		}
		prev := &b.Changes[i-1]
		switch order := compareChanges(prev, c); {
		case order > 0:
			return c.bad("not sorted: comes after inode %d, %v %#x", prev.Inum, prev.Kind, prev.Key)
		case order == 0, prev.Inum == c.Inum && prev.Kind == c.Kind && prev.Key == c.Key && c.Kind != KindData:
			return c.bad("twice in one batch")
		}
	}
	for i := range b.Ops {
		if err := b.Ops[i].validate(); err != nil {
			return err
		}
	}
	for _, t := range b.Touch {
		if t.Inum == 0 || t.Lo > t.Hi {
			return fmt.Errorf("%w: touch of inode %d, keys [%#x, %#x]", ErrBadBatch, t.Inum, t.Lo, t.Hi)
		}
	}
	if !slices.IsSortedFunc(b.Touch, func(x, y Touch) int { return cmp.Compare(x.Inum, y.Inum) }) {
		return fmt.Errorf("%w: touches not sorted", ErrBadBatch)
	}
	return nil
}

// bad is an ErrBadBatch that names the change.
func (c *Change) bad(format string, args ...any) error {
	return fmt.Errorf("%w: inode %d, %v %#x: %w", ErrBadBatch, c.Inum, c.Kind, c.Key, fmt.Errorf(format, args...))
}

func (c *Change) validate() error {
	if c.Inum == 0 || c.Inum >= ondisk.DirBit {
		return errors.New("impossible inode number")
	}
	if c.To != 0 && (c.Kind != KindData || !c.Delete || c.To <= c.Key) {
		return fmt.Errorf("range up to %#x", c.To)
	}
	switch c.Kind {
	case KindInode:
		return c.validateInode()
	case KindDirent:
		return c.validateDirent()
	case KindData:
		return c.validateData()
	}
	return errors.New("unknown kind")
}

func (c *Change) validateInode() error {
	switch {
	case c.Key != 0:
		return errors.New("key of an inode change")
	case c.Delete && c.Inum == ondisk.InumRoot:
		return errors.New("the root directory cannot be deleted")
	case c.Delete:
		return nil
	case c.Inode == nil:
		return errors.New("no inode given")
	case c.Inode.Inum != c.Inum:
		return fmt.Errorf("given inode says its number is %d", c.Inode.Inum)
	case c.Inum != ondisk.InumRoot && c.Inode.NameKey != c.Inum:
		return fmt.Errorf("given inode says its key is %#x", c.Inode.NameKey)
	case c.Inum == ondisk.InumRoot && c.Inode.Type != ondisk.ObjDir:
		return errors.New("the root must be a directory")
	case len(c.Inline) > ondisk.InlineMax || len(c.Inline) > 0 && !c.Inode.DirectData():
		return fmt.Errorf("%d bytes of inline content", len(c.Inline))
	}
	return c.Inode.Validate()
}

func (c *Change) validateDirent() error {
	switch {
	case c.Key&ondisk.DirBit == 0:
		return errors.New("key without bit 63")
	case c.Delete:
		return nil
	case c.Dirent.Key != c.Key:
		return fmt.Errorf("given entry says its key is %#x", c.Dirent.Key)
	}
	return c.Dirent.Validate()
}

func (c *Change) validateData() error {
	switch {
	case c.Key%ondisk.LogicalBlock != 0 || c.Key >= ondisk.DirBit:
		return errors.New("impossible offset")
	case c.Delete:
		return nil
	case c.Share != nil && c.Block != nil:
		return errors.New("a block, and one to share")
	case c.Share != nil:
		return c.Share.validate()
	case c.Block == nil:
		return errors.New("no block given")
	case c.Block.Radix < ondisk.MinRadix || c.Block.Radix > ondisk.MaxRadix || len(c.Block.Bytes) != 1<<c.Block.Radix:
		return fmt.Errorf("block of %d bytes with radix %d", len(c.Block.Bytes), c.Block.Radix)
	}
	return nil
}

// last is the highest key that a Data Delete covers.
func (c *Change) last() uint64 {
	if c.To == 0 {
		return c.Key
	}
	return c.To - 1
}

// modifyTid is what the leaf gets in a batch of tid t.
func (c *Change) modifyTid(t ondisk.Tid) ondisk.Tid {
	if c.ModifyTid != 0 {
		return c.ModifyTid
	}
	return t
}
