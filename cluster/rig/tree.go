package rig

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A Tree is what one member has, read from its volume alone.
type Tree struct {
	Files  map[string]string // content by path; of a directory "dir"
	Leaves map[string]string // every inode, entry and block, for comparing members
	T      ondisk.Tid
	Labels []string // of the volume's PFSs
}

// Tree reads all of the member's PFS; every block's check code is verified.
func (m *Member) Tree(ctx context.Context) (*Tree, error) {
	v, err := chain.Open(ctx, m.Copies(), chain.Options{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Name, err)
	}
	defer v.Close()
	infos, err := v.PFSs(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Name, err)
	}
	view, err := v.View(ctx, Label)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Name, err)
	}
	defer view.Release()
	t := &Tree{Files: make(map[string]string), Leaves: make(map[string]string), T: view.T()}
	for i := range infos {
		t.Labels = append(t.Labels, infos[i].Label)
	}
	if err := t.leaves(ctx, view); err != nil {
		return nil, fmt.Errorf("%s: %w", m.Name, err)
	}
	if err := t.walk(ctx, view, ondisk.InumRoot, ""); err != nil {
		return nil, fmt.Errorf("%s: %w", m.Name, err)
	}
	return t, nil
}

// leaves notes every leaf with its content and its number.
func (t *Tree) leaves(ctx context.Context, v *chain.View) error {
	recs := []*chain.InodeRec{}
	err := v.Inodes(ctx, 0, math.MaxUint64, func(r *chain.InodeRec) bool {
		recs = append(recs, r)
		return true
	})
	if err != nil {
		return err
	}
	root, _, err := v.Inode(ctx, ondisk.InumRoot)
	if err != nil {
		return err
	}
	for _, r := range append(recs, root) {
		meta := r.Meta
		if r == root { // what a node has of its own
			meta.PFSFsid, meta.PFSType, meta.PFSLsnapTid, meta.PFSInum = ondisk.UUID{}, 0, 0, 0
		}
		t.Leaves[fmt.Sprintf("inode %d", meta.Inum)] = fmt.Sprintf("%v %+v %x", r.Ref.ModifyTid, meta, r.Inline)
		if err := t.content(ctx, v, r); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) content(ctx context.Context, v *chain.View, r *chain.InodeRec) error {
	inum := r.Meta.Inum
	var bad error
	if r.Meta.Type == ondisk.ObjDir {
		return v.Dirents(ctx, inum, 0, math.MaxUint64, func(d ondisk.Dirent, ref *ondisk.Blockref) bool {
			t.Leaves[fmt.Sprintf("entry %d %x", inum, d.Key)] = fmt.Sprintf("%v %+v", ref.ModifyTid, d)
			return true
		})
	}
	err := v.DataRefs(ctx, inum, 0, math.MaxUint64, func(ref *ondisk.Blockref) bool {
		var b *ondisk.EncodedBlock
		if b, bad = v.ReadBlock(ctx, ref); bad != nil {
			return false
		}
		t.Leaves[fmt.Sprintf("block %d %x", inum, ref.Key)] = fmt.Sprintf("%v %x", ref.ModifyTid, ondisk.XXH64(b.Bytes))
		return true
	})
	return errors.Join(err, bad)
}

func (t *Tree) walk(ctx context.Context, v *chain.View, dir uint64, path string) error {
	var list []ondisk.Dirent
	err := v.Dirents(ctx, dir, 0, math.MaxUint64, func(d ondisk.Dirent, _ *ondisk.Blockref) bool {
		list = append(list, d)
		return true
	})
	if err != nil {
		return err
	}
	for _, d := range list {
		name := path + "/" + d.Name
		if d.Type == ondisk.ObjDir {
			t.Files[name] = "dir"
			if err := t.walk(ctx, v, d.Inum, name); err != nil {
				return err
			}
			continue
		}
		r, ok, err := v.Inode(ctx, d.Inum)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%s leads to inode %d, which is not there", name, d.Inum)
		}
		data := make([]byte, r.Meta.Size)
		if r.Meta.DirectData() {
			copy(data, r.Inline)
		} else if err := v.ReadData(ctx, d.Inum, 0, data); err != nil {
			return err
		}
		t.Files[name] = string(data)
	}
	return nil
}

// Difference says in a line how two trees' leaves differ; "" if they do not.
func (t *Tree) Difference(o *Tree) string {
	var diff []string
	if t.T != o.T {
		diff = append(diff, fmt.Sprintf("at %v and %v", t.T, o.T))
	}
	for _, k := range slices.Sorted(maps.Keys(t.Leaves)) {
		if other, ok := o.Leaves[k]; !ok {
			diff = append(diff, k+" only in the first")
		} else if other != t.Leaves[k] {
			diff = append(diff, fmt.Sprintf("%s: %s and %s", k, t.Leaves[k], other))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(o.Leaves)) {
		if _, ok := t.Leaves[k]; !ok {
			diff = append(diff, k+" only in the second")
		}
	}
	return strings.Join(diff, "; ")
}

// Fsck returns what the checker finds on the member's devices: everything
// reached from any of its headers.
func (m *Member) Fsck(ctx context.Context) ([]fsck.Finding, error) {
	rep, err := fsck.Check(ctx, m.Copies(), fsck.Options{AllSlots: true, Workers: 1})
	if err != nil {
		return nil, err
	}
	var out []fsck.Finding
	for _, f := range rep.Findings {
		if f.Severity > fsck.Info {
			out = append(out, f)
		}
	}
	return out, nil
}
