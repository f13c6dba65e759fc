package salvage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// sweepStep is how much is read at once when the whole volume is looked through.
const sweepStep = ondisk.SegmentSize

var errNothingLeft = fmt.Errorf("nothing of its content is left: %w", ondisk.ErrCorrupt)

// Deleted copies to dir what was deleted from a PFS and is still on the media,
// by its last known path: the whole volume is read, and every block looked at
// that is an inode and that the PFS does not reach any more. Of a file's
// versions the newest is taken whose content is all there, else the newest.
// What lost its name goes to lost+found. Options.Path restricts it, Slot and
// Orphans mean nothing here. progress is told of bytes read, and may be nil.
//
// Only numbers tell whose an inode was: on a volume with several PFSs, deleted
// files of the others may be among them.
//
// If nothing leads into the PFS any more, nothing tells what was deleted, and all
// that is found is copied; lost.go has the rest.
func Deleted(ctx context.Context, devs []ondisk.Device, dir string, o Options, progress func(done, total uint64)) (rep Report, err error) {
	o.Slot = -1
	c, err := open(ctx, devs, dir, o, &rep)
	if err != nil {
		return rep, err
	}
	defer c.root.Close()
	w := &wreckage{
		copier: c, present: make(map[uint64]bool), versions: make(map[uint64][]version), names: make(map[uint64]nameOf),
		made: make(map[string]uint64),
	}
	c.attrsOf = w.looseAttrs
	if err := w.enter(ctx); err != nil {
		return rep, err
	}
	if err := w.survey(ctx); err != nil {
		return rep, err
	}
	if err := w.sweep(ctx, progress); err != nil {
		return rep, err
	}
	if w.lostRoot != nil {
		if err := w.lostRoot.settle(ctx, w); err != nil {
			return rep, err
		}
	}
	w.order()
	if err := w.readNames(ctx); err != nil {
		return rep, err
	}
	return rep, w.copyAll(ctx)
}

// A version is a block that is an inode.
type version struct {
	off   uint64
	ctime uint64 // microseconds
	dir   bool
	own   bool // the newest root of the PFS that was found leads to it
}

// A nameOf is the newest entry known of an inode.
type nameOf struct {
	dir  uint64
	name string
}

// A wreckage is what is found of deleted files.
type wreckage struct {
	*copier
	present  map[uint64]bool // inodes that the PFS has
	others   media.Seen      // inodes that other PFSs have, snapshots excepted
	versions map[uint64][]version
	names    map[uint64]nameOf
	made     map[string]uint64 // directories made, and which they were
	lostRoot *lostRoot         // nil: the PFS can be entered
}

// survey notes what is not deleted.
func (w *wreckage) survey(ctx context.Context) error {
	list, _ := w.set.PFSs(ctx, w.hdr) // what is damaged was told when one was chosen
	w.present[ondisk.InumRoot] = true
	for i := range list {
		p := &list[i]
		mine := p.Ref.Key == w.pfs.Ref.Key
		if !mine && p.Meta.PFSSubtype != ondisk.PFSSubNone {
			continue
		}
		if w.lostRoot != nil && !unreadable(p) {
			w.lostRoot.intact[p.Label()] = true
		}
		err := w.set.Scan(ctx, p.Set, 0, ^uint64(0), func(r *ondisk.Blockref, err error) bool {
			if err == nil && r.Type == ondisk.TypeInode {
				if mine {
					w.present[r.Key] = true
				} else {
					w.others.Add(r)
				}
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sweep reads the volume and notes every inode on it.
func (w *wreckage) sweep(ctx context.Context, progress func(done, total uint64)) error {
	total := w.set.Header().Size()
	buf := ondisk.AlignedBuffer(sweepStep)
	for off := uint64(0); off < total; off += sweepStep {
		// An image may never have been written there.
		if off = w.set.NextData(off) / sweepStep * sweepStep; off >= total {
			break
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if progress != nil {
			progress(off, total)
		}
		if off%ondisk.ZoneSize == 0 {
			continue // reserved: headers and freemap
		}
		p := buf[:min(sweepStep, total-off)]
		if w.set.ReadAt(p, off) == nil {
			w.inodes(p, off)
			continue
		}
		for at := 0; at < len(p); at += ondisk.MaxBlock { // what can be read of it
			if part := p[at:min(at+ondisk.MaxBlock, len(p))]; w.set.ReadAt(part, off+uint64(at)) == nil {
				w.inodes(part, off+uint64(at))
			}
		}
	}
	return nil
}

// inodes notes the inodes in p, which was read at off.
func (w *wreckage) inodes(p []byte, off uint64) {
	for at := 0; at+ondisk.InodeSize <= len(p); at += ondisk.InodeSize {
		block := p[at : at+ondisk.InodeSize]
		if block[0] != 1 || block[1] != 0 {
			continue
		}
		m, err := ondisk.DecodeInodeMeta(block)
		if err != nil || !w.genuine(&m) {
			continue
		}
		ref := inodeRef(off + uint64(at))
		if w.lostRoot == nil && w.others.Has(&ref) {
			continue
		}
		v := version{off: off + uint64(at), ctime: m.Ctime, dir: m.Type == ondisk.ObjDir}
		if w.lostRoot != nil && m.Inum == ondisk.InumRoot {
			w.lostRoot.add(&m, v)
			continue
		}
		w.versions[m.Inum] = append(w.versions[m.Inum], v)
	}
}

// genuine reports whether a block that looks like an inode is one: each has its
// number also as its name, or is the root of the PFS.
func (w *wreckage) genuine(m *ondisk.InodeMeta) bool {
	if m.OpFlags&ondisk.OpPFSRoot != 0 {
		return m.Inum == ondisk.InumRoot && (w.lostRoot != nil || m.Name() == w.pfs.Meta.Name())
	}
	return m.Inum >= ondisk.InumFirst && m.NameKey == m.Inum && m.Name() == fmt.Sprintf("0x%016x", m.Inum)
}

// at reads a version of an inode.
func (w *wreckage) at(v version) (*found, error) {
	block := ondisk.AlignedBuffer(ondisk.InodeSize)
	if err := w.set.ReadAt(block, v.off); err != nil {
		return nil, err
	}
	m, err := ondisk.DecodeInodeMeta(block)
	if err != nil {
		return nil, err
	}
	n := &found{meta: m, block: block}
	if !m.DirectData() {
		ref := ondisk.Blockref{Type: ondisk.TypeInode}
		n.set, _ = media.Array(&ref, block) // elements that fit; blocks have codes of their own
	}
	return n, nil
}

// readNames takes the entries of all versions of all directories, newest first.
func (w *wreckage) readNames(ctx context.Context) error {
	for dir, list := range w.versions {
		var seen media.Seen
		for _, v := range list {
			if !v.dir {
				continue
			}
			n, err := w.at(v)
			if err != nil {
				continue
			}
			fresh := slices.DeleteFunc(n.set, func(r ondisk.Blockref) bool { return r.Type == ondisk.TypeIndirect && !seen.Add(&r) })
			err = w.entries(ctx, fresh, func(d *ondisk.Dirent, err error) {
				if err != nil || d.Name == "" || d.Name == "." || d.Name == ".." || strings.ContainsAny(d.Name, "/\x00") {
					return
				}
				if _, known := w.names[d.Inum]; !known {
					w.names[d.Inum] = nameOf{dir, d.Name}
				}
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// pathOf is the last known path of an inode, relative to the root.
func (w *wreckage) pathOf(inum uint64) string {
	var words []string
	for at, depth := inum, 0; at != ondisk.InumRoot; depth++ {
		n, ok := w.names[at]
		if !ok || depth == maxNesting {
			words = append(words, fmt.Sprintf("#%d", at), lostFound)
			break
		}
		words = append(words, n.name)
		at = n.dir
	}
	slices.Reverse(words)
	return path.Join(words...)
}

const (
	lostFound  = "lost+found"
	inodeRadix = 10 // of 1 KiB
)

// copyAll copies every inode that was deleted.
func (w *wreckage) copyAll(ctx context.Context) error {
	below := strings.TrimPrefix(path.Clean("/"+w.o.Path), "/")
	type item struct {
		name string
		inum uint64
	}
	var items []item
	for _, inum := range slices.Sorted(maps.Keys(w.versions)) {
		if w.present[inum] || inum&ondisk.AttrBit != 0 {
			continue
		}
		name := w.pathOf(inum)
		if below == "" || name == below || strings.HasPrefix(name, below+"/") {
			items = append(items, item{name, inum})
		}
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(b.inum, a.inum)) })
	taken := make(map[string]bool)
	for _, it := range items {
		if taken[it.name] { // an older file of that name
			it.name = fmt.Sprintf("%s.#%d", it.name, it.inum)
		}
		taken[it.name] = true
		if err := w.one(ctx, it.inum, it.name); err != nil {
			return err
		}
	}
	// Directories last: making what is in them changes their times.
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(w.made))) {
		if list := w.versions[w.made[name]]; len(list) > 0 {
			if n, err := w.at(list[0]); err == nil && n.meta.Type == ondisk.ObjDir {
				n.name = name
				w.dress(ctx, n)
			}
		}
	}
	return nil
}

// one copies the best version of an inode.
func (w *wreckage) one(ctx context.Context, inum uint64, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var best *found
	bestLeft := uint64(0)
	for _, v := range w.versions[inum] {
		n, err := w.at(v)
		if err != nil || n.meta.Inum != inum {
			continue
		}
		if n.meta.Type == ondisk.ObjDir {
			return w.mkdir(name, inum)
		}
		left, missing, err := w.left(ctx, n)
		if err != nil {
			return err
		}
		if best == nil || missing == 0 {
			best, bestLeft = n, left
		}
		if missing == 0 {
			break
		}
	}
	if best == nil {
		return nil
	}
	best.name = name
	if bestLeft == 0 && best.meta.Size > 0 && !best.meta.DirectData() && len(best.set) > 0 {
		w.lost(name, errNothingLeft)
		return nil
	}
	if err := w.mkdir(path.Dir(name), w.names[inum].dir); err != nil {
		return err
	}
	if err := w.make(ctx, best); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.lost(name, err)
	}
	return nil
}

// mkdir makes a directory and those above it.
func (w *wreckage) mkdir(name string, inum uint64) error {
	if name == "." {
		return nil
	}
	if _, ok := w.made[name]; ok {
		return nil
	}
	if err := w.mkdir(path.Dir(name), w.names[inum].dir); err != nil {
		return err
	}
	if err := w.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	w.made[name] = inum
	w.rep.Dirs++
	return nil
}

// left counts the bytes of a file that can be read, and those that cannot.
func (w *wreckage) left(ctx context.Context, n *found) (left, missing uint64, err error) {
	if n.meta.DirectData() {
		return n.meta.Size, 0, nil
	}
	probe := *w.copier
	probe.rep, probe.o.Lost = new(Report), nil
	err = probe.content(ctx, n, func(p []byte, _ int64) error {
		left += uint64(len(p))
		return nil
	})
	return left, uint64(probe.rep.Missing), err
}

// looseAttrs is the newest version of the attributes of an inode.
func (w *wreckage) looseAttrs(_ context.Context, inum uint64) (*found, error) {
	for _, v := range w.versions[ondisk.AttrBit|inum] {
		if n, err := w.at(v); err == nil && n.meta.Iparent == inum {
			if n.meta.DirectData() && !bytes.HasPrefix(n.block[ondisk.InodeSize-ondisk.InlineMax:], []byte("ANVXATR1")) {
				continue
			}
			return n, nil
		}
	}
	return nil, nil
}
