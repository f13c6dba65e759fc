package hostile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/hostile"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
	resync "github.com/anvilfs/anvilfs/sync"
)

const (
	patience  = 20 * time.Second // for a pool that must answer
	rejoining = 2 * time.Second  // for a member that need not come back
	maxItems  = 5000
)

// A pooled image is one that is used as a member.
type pooled struct {
	b  *base
	im *hostile.Image
	y  *tally
}

// check uses the image alone, and beside two good members.
func (c *pooled) check(ctx context.Context) error {
	if err := c.alone(ctx); err != nil {
		return fmt.Errorf("alone: %w", err)
	}
	if c.b.others[0] == nil {
		return nil
	}
	if err := c.among(ctx); err != nil {
		return fmt.Errorf("as one of three: %w", err)
	}
	return nil
}

func member(name string, devs func() []ondisk.Device) cluster.MemberSpec {
	return cluster.MemberSpec{Name: name, Open: func(context.Context) ([]ondisk.Device, error) { return devs(), nil }}
}

func (c *pooled) open(ctx context.Context, readOnly bool, members ...cluster.MemberSpec) (*cluster.Pool, error) {
	return cluster.OpenPool(ctx, members, cluster.Options{
		Label: c.b.label, ReadOnly: readOnly, OnNoQuorum: cluster.EIO,
		Commit: 20 * time.Millisecond, Memory: 16 << 20, Deadline: patience,
	})
}

// alone opens the image as the only member: read-only where it is one of
// three, since one alone has no majority.
func (c *pooled) alone(ctx context.Context) (err error) {
	ws := c.im.Watch()
	spec := member("hostile", func() []ondisk.Device { ws = ws.Again(); return ws.Devices() })
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	readOnly := c.b.others[0] != nil
	p, err := c.open(ctx, readOnly, spec)
	if err != nil {
		return errors.Join(ws.Misuse(), ctx.Err()) // refused
	}
	_, err = walk(ctx, p)
	if err == nil && !readOnly {
		_, err = createFile(ctx, p, "made alone")
	}
	if known(err) {
		err = nil
	}
	cerr := p.Close(ctx)
	if known(cerr) {
		cerr = nil
	}
	return errors.Join(err, cerr, ws.Misuse(), ctx.Err())
}

// among opens the image beside two good members, which have to answer for it,
// and stay as they are. It is brought up to date, and others from it.
func (c *pooled) among(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ws := c.im.Watch()
	good := [2][]*memdev.Device{cloneAll(c.b.others[0]), cloneAll(c.b.others[1])}
	specs := []cluster.MemberSpec{
		member("a", func() []ondisk.Device { return devices(good[0]) }),
		member("b", func() []ondisk.Device { return devices(good[1]) }),
		member("hostile", func() []ondisk.Device { ws = ws.Again(); return ws.Devices() }),
	}
	p, err := c.open(ctx, false, specs...)
	if err != nil {
		return errors.Join(ws.Misuse(), ctx.Err()) // refused: what and why is in the text
	}
	mctx, stop := context.WithCancel(ctx)
	managed := make(chan struct{})
	go func() {
		defer close(managed)
		resync.NewManager(p, resync.Options{}).Run(mctx)
	}()
	made, err := c.life(ctx, p)
	stop()
	<-managed
	if err = errors.Join(err, p.Close(ctx), ws.Misuse(), ctx.Err()); err != nil {
		return err
	}
	return c.goodOnes(ctx, good, made)
}

// A made file was acknowledged by the pool.
type madeFile struct {
	inum    uint64
	content []byte
}

// life is what three members go through: reads, changes, one away and back.
func (c *pooled) life(ctx context.Context, p *cluster.Pool) (made []madeFile, err error) {
	add := func(name string) error {
		f, err := createFile(ctx, p, name)
		if errors.Is(err, cluster.ErrNoSpace) {
			return nil // writers are admitted against the smallest member, and it may say so
		}
		if err == nil {
			made = append(made, f)
		}
		return err
	}
	if _, err := walk(ctx, p); err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	if err := add("first"); err != nil {
		return nil, err
	}
	away := "hostile" // to be brought up to date; else others from it
	if c.im.Seed%2 == 1 && p.NodeOffline(ctx, "a") == nil {
		away = "a" // else the hostile one is in no state to be counted on
	} else if err := c.takeAway(ctx, p); err != nil {
		return nil, fmt.Errorf("taking it offline: %w", err)
	}
	err = add("second")
	if away == "a" && errors.Is(err, cluster.ErrNoQuorum) {
		err = nil // the hostile one failed: it goes on when a is back
	}
	if err != nil {
		return nil, fmt.Errorf("without %s: %w", away, err)
	}
	if err := p.NodeOnline(ctx, away); err != nil && away != "hostile" {
		return nil, fmt.Errorf("%s online: %w", away, err)
	}
	if err := p.Wait(ctx, cluster.WaitQuorum); err != nil {
		return nil, err
	}
	wctx, cancel := context.WithTimeout(ctx, rejoining)
	if p.Wait(wctx, cluster.WaitResync) == nil {
		c.y.healed.Add(1)
	}
	cancel()
	return made, add("third")
}

// takeAway takes the hostile one offline. A txg that it alone had may have been
// adopted: the others are copied from it first.
func (c *pooled) takeAway(ctx context.Context, p *cluster.Pool) error {
	if p.NodeOffline(ctx, "hostile") == nil {
		return nil
	}
	wctx, cancel := context.WithTimeout(ctx, rejoining)
	defer cancel()
	if err := p.Wait(wctx, cluster.WaitResync); err != nil {
		return err
	}
	return p.NodeOffline(ctx, "hostile")
}

// goodOnes looks whether each good member alone has what was acknowledged,
// and what was there.
func (c *pooled) goodOnes(ctx context.Context, good [2][]*memdev.Device, made []madeFile) error {
	had := 0
	for i, devs := range good {
		v, err := chain.Open(ctx, devices(devs), chain.Options{ReadOnly: true, CacheBytes: 1 << 20})
		if err != nil {
			return err
		}
		all, err := hostile.ReadAll(ctx, v)
		if err == nil && (all["QUIET"] != c.b.sound["QUIET"] || all[c.b.label] == 0) {
			err = errors.New("its PFSs are not what they were")
		}
		if err == nil && hasAll(ctx, v, c.b.label, made) == nil {
			had++
		}
		if err = errors.Join(err, v.Close()); err != nil {
			return fmt.Errorf("good member %d: %w", i, err)
		}
	}
	// One may have been away and still on its way back.
	if had == 0 {
		return errors.New("no good member has all that was acknowledged")
	}
	return nil
}

func hasAll(ctx context.Context, v *chain.Volume, label string, made []madeFile) error {
	view, err := v.View(ctx, label)
	if err != nil {
		return err
	}
	defer view.Release()
	for _, f := range made {
		got := make([]byte, len(f.content))
		if err := view.ReadData(ctx, f.inum, 0, got); err != nil || !bytes.Equal(got, f.content) {
			return fmt.Errorf("inode %d: %w", f.inum, errors.Join(err, chain.ErrNoInode))
		}
	}
	return nil
}

// known reports whether a pool may say so about a damaged member.
func known(err error) bool {
	return hostile.Explained(err) || errors.Is(err, cluster.ErrNoQuorum) || errors.Is(err, cluster.ErrNoSpace) ||
		errors.Is(err, cluster.ErrNoEntry) || errors.Is(err, cluster.ErrHashFull)
}

// walk reads what a pool shows: entries, inodes, some of the content.
func walk(ctx context.Context, p *cluster.Pool) (items int, err error) {
	seen := map[uint64]bool{ondisk.InumRoot: true}
	todo := []uint64{ondisk.InumRoot}
	buf := make([]byte, 3*ondisk.LogicalBlock)
	for len(todo) > 0 && items < maxItems {
		dir := todo[0]
		todo = todo[1:]
		var names []ondisk.Dirent
		if err := p.ReadDir(ctx, dir, 0, func(d ondisk.Dirent) bool {
			names = append(names, d)
			return len(names) < maxItems
		}); err != nil && !errors.Is(err, chain.ErrNoInode) {
			return items, fmt.Errorf("directory %d: %w", dir, err)
		}
		for _, d := range names {
			items++
			in, ok, err := p.Inode(ctx, d.Inum)
			if err != nil {
				return items, fmt.Errorf("inode %d: %w", d.Inum, err)
			}
			if !ok || seen[d.Inum] {
				continue
			}
			seen[d.Inum] = true
			if in.Meta.Type == ondisk.ObjDir {
				todo = append(todo, d.Inum)
				continue
			}
			for _, off := range []uint64{0, in.Meta.Size / 2, math.MaxUint64 - 1<<20} {
				if err := p.ReadData(ctx, d.Inum, off, buf); err != nil {
					return items, fmt.Errorf("content of inode %d: %w", d.Inum, err)
				}
			}
		}
	}
	return items, nil
}

// createFile makes a file in the root directory and waits until it is durable.
func createFile(ctx context.Context, p *cluster.Pool, name string) (f madeFile, err error) {
	t, err := p.Begin(ctx, cluster.Cost{Leaves: 4, Bytes: 4096})
	if err != nil {
		return f, fmt.Errorf("beginning: %w", err)
	}
	f.inum, f.content = t.NewInum(), []byte(strings.Repeat(name, 20))
	m := ondisk.NewInodeMeta(f.inum, ondisk.ObjFile)
	m.Mode, m.Nlinks, m.Iparent, m.Size = 0o644, 1, ondisk.InumRoot, uint64(len(f.content))
	m.OpFlags = ondisk.OpDirectData
	t.PutInode(&cluster.Inode{Meta: m, Inline: f.content})
	err = t.AddDirent(ondisk.InumRoot, name, f.inum, ondisk.ObjFile)
	t.End()
	if err == nil {
		err = p.Sync(ctx)
	}
	if err != nil {
		err = fmt.Errorf("new file: %w", err)
	}
	return f, err
}

func cloneAll(devs []*memdev.Device) (list []*memdev.Device) {
	for _, d := range devs {
		list = append(list, d.Clone())
	}
	return list
}
