package show

import (
	"context"
	"fmt"
	"io"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Chain prints the tree of blockrefs of a PFS, or of the whole volume if label
// is empty. depth is how many levels below its root are printed; 0 = all.
func Chain(ctx context.Context, w io.Writer, devs []ondisk.Device, label string, depth int) error {
	p, err := open(w, devs)
	if err != nil {
		return err
	}
	if depth <= 0 {
		depth = 4 * media.MaxDepth
	}
	root := media.SuperRoot(p.set.Header())
	if label != "" {
		f, err := p.pfs(ctx, label)
		if err != nil {
			return err
		}
		root = f.Ref
	}
	t := treePrinter{printer: p}
	t.tree(ctx, 0, &root, depth)
	return p.done(ctx)
}

func (p *printer) pfs(ctx context.Context, label string) (*media.PFS, error) {
	list, err := p.set.PFSs(ctx, p.set.Header())
	for i := range list {
		if list[i].Label() == label {
			return &list[i], nil
		}
	}
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("no PFS %q on the volume", label)
}

// A treePrinter goes through a tree. Blocks of one PFS are entered once, and
// so is each PFS: a damaged tree may go round in circles.
type treePrinter struct {
	*printer
	roots, seen media.Seen
	inPFS       bool
}

func (p *treePrinter) tree(ctx context.Context, indent int, r *ondisk.Blockref, depth int) {
	if ctx.Err() != nil || p.err != nil {
		return
	}
	p.ref(indent, r)
	if depth == 0 || r.DataOff == 0 {
		return
	}
	switch r.Type {
	case ondisk.TypeInode, ondisk.TypeIndirect:
		if !p.enter(r) {
			p.line(indent+1, "!! a block that was printed before: there are two references to it")
			return
		}
		p.table(ctx, indent+1, r, depth)
	case ondisk.TypeData:
		_, err := p.set.Read(r)
		p.bad(indent+1, err)
	}
}

// enter reports whether the block of r was not met before: in this PFS, or as
// one of those above all PFSs.
func (p *treePrinter) enter(r *ondisk.Blockref) bool {
	if p.inPFS {
		return p.seen.Add(r)
	}
	return p.roots.Add(r)
}

func (p *treePrinter) table(ctx context.Context, indent int, r *ondisk.Blockref, depth int) {
	if r.Type == ondisk.TypeIndirect {
		refs, err := p.set.Children(r)
		p.bad(indent, err)
		p.kids(ctx, indent, refs, depth)
		return
	}
	meta, block, refs, err := p.set.Inode(r)
	if block != nil && (err == nil || meta.Inum != 0 || meta.Type != 0) {
		p.line(indent, "%s", brief(&meta))
	}
	p.bad(indent, err)
	if !p.inPFS && meta.PFSType != ondisk.PFSSuperRoot {
		p.inPFS, p.seen = true, media.Seen{}
		defer func() { p.inPFS = false }()
	}
	p.kids(ctx, indent, refs, depth)
}

func (p *treePrinter) kids(ctx context.Context, indent int, refs []ondisk.Blockref, depth int) {
	for i := range refs {
		p.tree(ctx, indent, &refs[i], depth-1)
	}
}

// brief is an inode on one line.
func brief(m *ondisk.InodeMeta) string {
	s := fmt.Sprintf("%v inode %d mode %04o size %d nlinks %d", m.Type, m.Inum, m.Mode, m.Size, m.Nlinks)
	if m.DirectData() {
		s += " inline"
	}
	if m.OpFlags&ondisk.OpPFSRoot != 0 || m.PFSType == ondisk.PFSSuperRoot {
		s += fmt.Sprintf(" %q", m.Name())
	}
	return s
}

// Find prints the way from the header in use to each block that covers the
// logical address: what is lost if it cannot be read.
func Find(ctx context.Context, w io.Writer, devs []ondisk.Device, addr uint64) error {
	p, err := open(w, devs)
	if err != nil {
		return err
	}
	f := finder{printer: p, addr: addr}
	root := media.SuperRoot(p.set.Header())
	f.walk(ctx, []ondisk.Blockref{root})
	if f.hits == 0 && ctx.Err() == nil {
		p.line(0, "nothing in the tree covers %#x", addr)
	}
	return p.done(ctx)
}

type finder struct {
	*printer
	addr uint64
	way  []ondisk.Blockref
	hits int
	seen media.Seen // in one PFS, or above all
	pfss int        // PFSs that are being searched: 0 or 1
}

func (f *finder) walk(ctx context.Context, refs []ondisk.Blockref) {
	for i := range refs {
		r := &refs[i]
		if r.DataOff == 0 || ctx.Err() != nil || len(f.way) > 4*media.MaxDepth {
			continue
		}
		f.way = append(f.way, *r)
		if f.addr >= r.Off() && f.addr < r.Off()+uint64(r.Size()) {
			f.hit()
		}
		if (r.Type == ondisk.TypeInode || r.Type == ondisk.TypeIndirect) && f.seen.Add(r) {
			f.enter(ctx, r)
		}
		f.way = f.way[:len(f.way)-1]
	}
}

// enter goes on below r. Snapshots share blocks: each PFS, which is below the
// super-root, is searched as if it were the only one.
func (f *finder) enter(ctx context.Context, r *ondisk.Blockref) {
	if r.Flags&ondisk.FlagPFSRoot != 0 && f.pfss == 0 {
		above := f.seen
		f.seen = media.Seen{}
		f.pfss++
		defer func() { f.seen = above; f.pfss-- }()
	}
	below, err := f.set.Children(r)
	if err != nil {
		f.line(0, "!! not searched: %v: %v", r, err)
	}
	f.walk(ctx, below)
}

func (f *finder) hit() {
	f.hits++
	for i := range f.way {
		f.ref(i, &f.way[i])
	}
	last := &f.way[len(f.way)-1]
	if _, err := f.set.Read(last); err != nil {
		f.bad(len(f.way), err)
	}
}
