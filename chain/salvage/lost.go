package salvage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A lostRoot is what Deleted knows of PFSs when nothing leads into the one that
// is wanted: its root or the super-root cannot be read. Older roots are on the
// device nearly always, since every commit writes a new one. Their entries give
// the names in the first directory, and which inodes they lead to tells the PFSs
// of a volume apart. Directories that none of them names go to lost+found, by
// number.
type lostRoot struct {
	roots  map[string][]version // of all PFSs, by label
	intact map[string]bool      // labels of PFSs that can be entered

	// trusted: the newest root that is found is that of the last commit, since
	// the way to it is what is damaged. What it leads to is better than versions
	// that are newer, as a rollback abandons them.
	trusted bool
}

// enter finds the PFS, or says that all will be copied.
func (w *wreckage) enter(ctx context.Context) error {
	k, err := w.choose(ctx)
	if err != nil && !errors.Is(err, ErrRoot) {
		return err
	}
	w.pfs = &k.PFS
	if err == nil && k.old == nil {
		return nil
	}
	w.lostRoot = &lostRoot{roots: make(map[string][]version), intact: make(map[string]bool), trusted: k.Ref.Key == 0}
	if w.o.Label == "" && k.Meta.NameLen > 0 {
		w.o.Label = k.Label()
	}
	at := "PFS"
	if w.o.Label != "" {
		at += " " + w.o.Label
	}
	w.lost(at, fmt.Errorf("what is on the device is copied, also what was deleted, since %w: %w", ErrRoot, k.why))
	return nil
}

// add notes a root of any PFS.
func (l *lostRoot) add(m *ondisk.InodeMeta, v version) {
	l.roots[m.Name()] = append(l.roots[m.Name()], v)
}

// settle finds out which inodes are whose.
func (l *lostRoot) settle(ctx context.Context, w *wreckage) error {
	if err := l.name(w); err != nil {
		return err
	}
	w.versions[ondisk.InumRoot] = l.roots[w.o.Label]
	var own, newest, others marks
	if root := l.newest(w, w.o.Label); root != nil {
		newest.mark(ctx, w.set, root.set, 0)
	}
	for label, list := range l.roots {
		to := &others
		if label == w.o.Label {
			to = &own
		} else if internal(label) || l.snapshot(w, label) {
			continue // they share what is in the PFS
		}
		for _, v := range list {
			if n, err := w.at(v); err == nil {
				to.mark(ctx, w.set, n.set, 0)
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for inum, list := range w.versions {
		kept := list[:0]
		for _, v := range list {
			ref := inodeRef(v.off)
			v.own = newest.inodes.Has(&ref)
			if own.inodes.Has(&ref) || !others.inodes.Has(&ref) && !w.others.Has(&ref) {
				kept = append(kept, v)
			}
		}
		if w.versions[inum] = kept; len(kept) == 0 {
			delete(w.versions, inum)
		}
	}
	return nil
}

// marks are the inodes that roots lead to, and the tables on the way.
type marks struct{ inodes, tables media.Seen }

func (k *marks) mark(ctx context.Context, set *media.Set, refs []ondisk.Blockref, depth int) {
	for i := range refs {
		switch r := &refs[i]; {
		case r.Type == ondisk.TypeInode:
			k.inodes.Add(r)
		case r.Type == ondisk.TypeIndirect && depth < media.MaxDepth && ctx.Err() == nil && k.tables.Add(r):
			if below, err := set.Children(r); err == nil || len(below) > 0 { // what is whole of it
				k.mark(ctx, set, below, depth+1)
			}
		}
	}
}

// name finds the label that was not given.
func (l *lostRoot) name(w *wreckage) error {
	var names []string
	for _, label := range slices.Sorted(maps.Keys(l.roots)) {
		key := w.pfs.Ref.Key
		if key != 0 && !is(w.pfs, label) || key == 0 && (internal(label) || l.intact[label] || l.snapshot(w, label)) {
			continue
		}
		names = append(names, label)
	}
	switch {
	case w.o.Label == "" && len(names) == 1:
		w.o.Label = names[0]
	case w.o.Label == "" && len(names) > 1:
		return noPFS("", names)
	case len(l.roots[w.o.Label]) == 0:
		if len(names) == 0 {
			names = []string{"none"}
		}
		w.lost(strings.TrimSpace("PFS "+w.o.Label), fmt.Errorf("no older root of it is on the device, so names in its first directory are missing; roots found: %s", strings.Join(names, ", ")))
	}
	return nil
}

func (l *lostRoot) snapshot(w *wreckage, label string) bool {
	root := l.newest(w, label)
	return root != nil && root.meta.PFSSubtype != ondisk.PFSSubNone
}

// newest is the root of that label that leads to the newest block that is whole;
// nil if there is none.
func (l *lostRoot) newest(w *wreckage, label string) (best *found) {
	var top ondisk.Tid
	for _, v := range l.roots[label] {
		n, err := w.at(v)
		if err != nil {
			continue
		}
		for i := range n.set {
			r := &n.set[i]
			if r.DataOff == 0 || r.MirrorTid <= top {
				continue
			}
			if _, err := w.set.Read(r); err == nil {
				best, top = n, r.MirrorTid
			}
		}
	}
	return best
}

// order sorts the versions of each inode, those first that are to be taken.
func (w *wreckage) order() {
	strange := func(v version) int {
		if v.own {
			return 0
		}
		return 1
	}
	trusted := w.lostRoot != nil && w.lostRoot.trusted
	for _, list := range w.versions {
		slices.SortStableFunc(list, func(a, b version) int {
			age, whose := cmp.Compare(b.ctime, a.ctime), cmp.Compare(strange(a), strange(b))
			if trusted {
				return cmp.Or(whose, age)
			}
			return cmp.Or(age, whose)
		})
	}
}

// inodeRef is a reference to the inode at an address.
func inodeRef(off uint64) ondisk.Blockref {
	return ondisk.Blockref{Type: ondisk.TypeInode, DataOff: ondisk.MakeDataOff(off, inodeRadix)}
}
