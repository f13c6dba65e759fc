package matrix

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	masters = 3
	slaves  = 1
	soft    = 1 // soft slaves: read first, missed never
	nodes   = masters + slaves + soft
	oneSlot = 256 << 20 // a volume with a single header slot
	slots   = 5 << 30   // one with several
	kept    = 6         // files that no call touches, for damage
)

// A base is a world that cells start from, each with a copy of its own.
type base struct {
	world *rig.World
	files map[string]string
	keep  []uint64             // inode numbers of files that nothing changes
	loose map[string][2]string // what a branch changed: before and after its merge
}

func (b *base) model() *model { return &model{states: []map[string]string{b.files}} }

var (
	baseOne  = sync.OnceValues(func() (*base, error) { return makeBase(oneSlot) })
	baseFull = sync.OnceValues(func() (*base, error) { return makeBase(smallest) })
	baseMany = sync.OnceValues(func() (*base, error) { return makeBase(slots) })

	baseBranch = sync.OnceValues(makeBranch)
)

// makeBase fills a new cluster by way of a mount.
func makeBase(size int64) (*base, error) {
	ctx := context.Background()
	w, err := rig.NewRoles(ctx, []ondisk.PFSType{ondisk.PFSMaster, ondisk.PFSMaster, ondisk.PFSMaster, ondisk.PFSSlave, ondisk.PFSSoftSlave}, size)
	if err != nil {
		return nil, err
	}
	b := &base{world: w}
	quiet := slog.New(slog.DiscardHandler)
	p, err := cluster.OpenPool(ctx, w.Specs(), cluster.Options{Label: rig.Label})
	if err != nil {
		return nil, err
	}
	f, err := fs.New(ctx, fs.OnPool(p), false, fs.Options{NoAtime: true, Logger: quiet})
	if err != nil {
		return nil, err
	}
	if err := b.fill(ctx, f); err != nil {
		return nil, err
	}
	if err := p.Wait(ctx, cluster.WaitHealthy); err != nil {
		return nil, err
	}
	if err := f.Close(ctx); err != nil {
		return nil, err
	}
	return b, p.Close(ctx)
}

func (b *base) fill(ctx context.Context, f *fs.FS) error {
	c := &caller{fs: f, model: &model{states: []map[string]string{{}}}, rng: rand.New(rand.NewPCG(4, 2)), names: 12}
	for range 60 {
		if err := c.call(ctx); err != nil {
			return err
		}
	}
	b.files = c.model.last()
	dir, err := f.Create(ctx, ondisk.InumRoot, "keep", fs.NewNode{Type: ondisk.ObjDir, Mode: 0o755})
	if err != nil {
		return err
	}
	b.files["/keep"] = "dir"
	for i := range kept {
		name := fmt.Sprintf("k%d", i)
		rec, err := f.Create(ctx, dir.Meta.Inum, name, fs.NewNode{Type: ondisk.ObjFile, Mode: 0o644})
		if err != nil {
			return err
		}
		data := content(c.rng, 450_000) // more blocks than an inode refers to: there is a table
		if _, err := f.Write(ctx, rec.Meta.Inum, 0, []byte(data), false); err != nil {
			return err
		}
		b.files["/keep/"+name] = data
		b.keep = append(b.keep, rec.Meta.Inum)
	}
	for i := range 40 { // so many inodes that they have tables
		name := fmt.Sprintf("s%d", i)
		if _, err := f.Create(ctx, dir.Meta.Inum, name, fs.NewNode{Type: ondisk.ObjFile, Mode: 0o644}); err != nil {
			return err
		}
		b.files["/keep/"+name] = ""
	}
	return nil
}
