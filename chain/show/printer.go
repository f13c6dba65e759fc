package show

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A printer writes lines and remembers the first error of the writer.
type printer struct {
	w   io.Writer
	set *media.Set
	err error
}

func open(w io.Writer, devs []ondisk.Device) (*printer, error) {
	set, err := media.Open(devs)
	if err != nil {
		return nil, err
	}
	return &printer{w: w, set: set}, nil
}

// line prints one line, indented by two blanks a level.
func (p *printer) line(indent int, format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, "%s%s\n", strings.Repeat("  ", indent), fmt.Sprintf(format, args...))
	}
}

// bad prints what cannot be shown.
func (p *printer) bad(indent int, err error) {
	if err != nil {
		p.line(indent, "!! %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

// done is the error of a whole command.
func (p *printer) done(ctx context.Context) error {
	if p.err != nil {
		return p.err
	}
	return ctx.Err()
}

// ref prints a blockref on one line.
func (p *printer) ref(indent int, r *ondisk.Blockref) {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8v %016x/%-2d", r.Type, r.Key, r.KeyBits)
	if r.DataOff != 0 {
		fmt.Fprintf(&b, " at %#x.%d %v", r.Off(), r.Radix(), r.CheckMethod())
		if r.Type == ondisk.TypeData && r.CompMethod() != ondisk.CompNone {
			fmt.Fprintf(&b, " %v", r.CompMethod())
		}
	}
	fmt.Fprintf(&b, " mirror %#x modify %#x", uint64(r.MirrorTid), uint64(r.ModifyTid))
	switch r.Type {
	case ondisk.TypeInode, ondisk.TypeIndirect:
		fmt.Fprintf(&b, " data %d inodes %d leaves %d", r.DataCount(), r.InodeCount(), r.LeafCount)
	case ondisk.TypeDirent:
		if d, err := p.set.Dirent(r); err != nil {
			fmt.Fprintf(&b, " !! %v", err)
		} else {
			fmt.Fprintf(&b, " %q -> %v %d", d.Name, d.Type, d.Inum)
		}
	}
	if r.Flags&ondisk.FlagPFSRoot != 0 {
		b.WriteString(" PFSROOT")
	}
	p.line(indent, "%s", b.String())
}

// tid prints both forms of a number.
func tid(t ondisk.Tid) string { return fmt.Sprintf("%#x (%v)", uint64(t), t) }

func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%d (%.1f %s)", n, f, units[i])
}

func when(sec int64, nsec uint32) string {
	if sec == 0 && nsec == 0 {
		return "-"
	}
	return time.Unix(sec, int64(nsec)).UTC().Format("2006-01-02T15:04:05.999999999Z")
}
