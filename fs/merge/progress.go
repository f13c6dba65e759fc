package merge

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

// A Progress says how far the merge of a branch has come: the content of inode
// 9, a mark and JSON.
type Progress struct {
	Branch ondisk.UUID      `json:"branch"` // its cluster id
	At     cluster.Position `json:"at"`     // its last txg, when the merge began
	Node   string           `json:"node"`
	Ranges []Range          `json:"ranges,omitempty"`
	Next   int              `json:"next"` // item
	// Stamp is the ctime, in ns, that the file of the next item has while it is
	// written in several steps; 0 = it is not begun.
	Stamp int64 `json:"stamp,omitempty"`
	Done  bool  `json:"done,omitempty"` // the branch may end
}

// A Range says that files of the branch with numbers from Low on, Count of
// them, are those from First on in the cluster.
type Range struct {
	Low   uint64 `json:"low"`
	Count uint64 `json:"count"`
	First uint64 `json:"first"`
}

const (
	progressMagic = "ANVMERG1"
	conflictMagic = "ANVCONF1"
	rangesMax     = 64
)

// mapped is the number in the cluster of a file that the branch made; 0 = none
// is set aside for it.
func (p *Progress) mapped(x uint64) uint64 {
	for _, r := range p.Ranges {
		if x >= r.Low && x-r.Low < r.Count {
			return r.First + x - r.Low
		}
	}
	return 0
}

// EncodeProgress returns the content of the inode.
func EncodeProgress(p *Progress) []byte { return encode(progressMagic, p) }

// DecodeProgress reads what EncodeProgress writes. Errors are ondisk.ErrCorrupt.
func DecodeProgress(b []byte) (*Progress, error) {
	var p Progress
	if err := decode("progress of a merge", progressMagic, b, &p); err != nil {
		return nil, err
	}
	if len(p.Ranges) > rangesMax || p.Next < 0 {
		return nil, fmt.Errorf("progress of a merge: %d ranges, item %d: %w", len(p.Ranges), p.Next, ondisk.ErrCorrupt)
	}
	for _, r := range p.Ranges {
		if r.Low+r.Count < r.Low || r.First+r.Count < r.First || r.First+r.Count > ondisk.AttrBit {
			return nil, fmt.Errorf("progress of a merge: numbers %+v: %w", r, ondisk.ErrCorrupt)
		}
	}
	return &p, nil
}

// A Conflict is what a merge left for somebody to decide.
type Conflict struct {
	Path string `json:"path"`           // in the cluster; what is there stays until it is decided
	Copy string `json:"copy,omitempty"` // what the branch has; "" = it has nothing there
	What string `json:"what"`           // in words
	Node string `json:"node"`
	// Removed: the branch has removed it.
	Removed bool `json:"removed,omitempty"`

	// Path and Copy are names in directories, which may be renamed.
	Dir      uint64 `json:"dir,omitempty"`
	Name     string `json:"name,omitempty"`
	CopyDir  uint64 `json:"copy_dir,omitempty"`
	CopyName string `json:"copy_name,omitempty"`

	Time   time.Time   `json:"time"`
	Branch ondisk.UUID `json:"branch"`
	Ours   uint64      `json:"ours"`           // number in the branch
	Inum   uint64      `json:"inum,omitempty"` // of the copy, in the cluster
}

// A Conflicts is the list of them: the content of inode 10.
type Conflicts struct {
	List []Conflict `json:"list"`
	More int        `json:"more,omitempty"` // that did not fit; their copies are there
}

// conflictsMax bounds the list.
const conflictsMax = 8192

// EncodeConflicts returns the content of the inode, nil for an empty list.
func EncodeConflicts(c *Conflicts) []byte {
	if len(c.List) == 0 && c.More == 0 {
		return nil
	}
	return encode(conflictMagic, c)
}

// DecodeConflicts reads what EncodeConflicts writes. Errors are
// ondisk.ErrCorrupt.
func DecodeConflicts(b []byte) (*Conflicts, error) {
	var c Conflicts
	if len(b) == 0 {
		return &c, nil
	}
	if err := decode("list of conflicts", conflictMagic, b, &c); err != nil {
		return nil, err
	}
	if len(c.List) > conflictsMax || c.More < 0 {
		return nil, fmt.Errorf("list of conflicts: %d entries and %d more: %w", len(c.List), c.More, ondisk.ErrCorrupt)
	}
	return &c, nil
}

// ReadConflicts returns the list that a filesystem has, with the paths as they
// are now. What lies in a directory that is gone is left out.
func ReadConflicts(ctx context.Context, f *fs.FS) (*Conflicts, error) {
	b, err := f.Load(ctx, ondisk.InumConflicts)
	if err != nil {
		return nil, err
	}
	c, err := DecodeConflicts(b)
	if err != nil {
		return nil, err
	}
	kept := c.List[:0]
	for _, k := range c.List {
		if k.Path, err = path(ctx, f, k.Dir, k.Name); err != nil {
			return nil, err
		}
		if k.CopyName != "" {
			if k.Copy, err = path(ctx, f, k.CopyDir, k.CopyName); err != nil {
				return nil, err
			}
		}
		if gone, err := decided(ctx, f, &k); err != nil {
			return nil, err
		} else if !gone {
			kept = append(kept, k)
		}
	}
	c.List = kept
	return c, nil
}

// decided reports whether somebody has removed or renamed what a conflict is
// about: then there is nothing to be decided any more.
func decided(ctx context.Context, f *fs.FS, k *Conflict) (bool, error) {
	if k.CopyName == "" {
		return k.Path == "", nil
	}
	there, ok, err := f.Find(ctx, k.CopyDir, k.CopyName)
	return k.Copy == "" || !ok || k.Inum != 0 && there.Inum != k.Inum, err
}

// Forget takes the conflict with that copy, or about that path, off the list, and
// with it those that are decided.
func Forget(ctx context.Context, f *fs.FS, at string) error {
	c, err := ReadConflicts(ctx, f)
	if err != nil {
		return err
	}
	c.List = slices.DeleteFunc(c.List, func(k Conflict) bool { return k.Copy == at || k.Copy == "" && k.Path == at })
	if len(c.List) == 0 {
		c.More = 0
	}
	return f.Graft(ctx, []uint64{ondisk.InumConflicts}, func(g *fs.Graft) error {
		if _, _, err := g.Inode(ctx, ondisk.InumConflicts); err != nil {
			return err
		}
		return g.Step(ctx, fs.Cost{Leaves: 4, Bytes: listCost}, func() error {
			return g.Keep(ctx, ondisk.InumConflicts, EncodeConflicts(c))
		})
	})
}

// add appends a conflict, as long as there is room.
func (c *Conflicts) add(k Conflict) {
	if len(c.List) >= conflictsMax {
		c.More++
		return
	}
	c.List = append(c.List, k)
}

func encode(magic string, v any) []byte {
	b, err := rawjson.Marshal(v)
	if err != nil {
		panic(err) // plain values
	}
	return append([]byte(magic), b...)
}

func decode(what, magic string, b []byte, v any) error {
	body, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok {
		return fmt.Errorf("%s: %d bytes without its mark: %w", what, len(b), ondisk.ErrCorrupt)
	}
	if err := rawjson.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%s: %v: %w", what, err, ondisk.ErrCorrupt)
	}
	return nil
}
