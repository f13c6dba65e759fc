package cluster

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// hurtInSnapshot damages the first block of the only file of a snapshot on some
// members.
func (c *testCluster) hurtInSnapshot(p *Pool, name string, members ...int) {
	c.t.Helper()
	for _, n := range p.engine.volumes() {
		for _, i := range members {
			if n.Node != i {
				continue
			}
			v, err := n.Vol.View(c.ctx, name)
			check(c.t, err)
			var inums []uint64
			check(c.t, v.Inodes(c.ctx, ondisk.InumFirst, 1<<62, func(r *chain.InodeRec) bool {
				inums = append(inums, r.Meta.Inum)
				return true
			}))
			ref, ok, err := dataRef(c.ctx, v, inums[0], 0)
			check(c.t, err)
			if !ok {
				c.t.Fatal("the file has no block")
			}
			_, err = c.disks[i].WriteAt([]byte("damage"), int64(ref.Off()))
			check(c.t, err)
			v.Release()
		}
	}
}

// Symptom: what only readers of a snapshot met was repaired by nobody until the
// next scrub, and listed nowhere, also where no copy was left.
func TestSnapshotReadsRepair(t *testing.T) {
	c := newTestCluster(t, 3)
	told := make(chan Damage, 100)
	failed := make(chan error, 100)
	p := c.pool(Options{Damaged: func(d Damage, err error) { told <- d; failed <- err }})
	defer closePool(t, p)
	raw := make([]byte, ondisk.LogicalBlock) // a block of its own, so that it is mended in place
	for i, r := 0, rand.New(rand.NewPCG(1, 2)); i < len(raw); i++ {
		raw[i] = byte(r.Uint32())
	}
	text := string(raw)
	say(t, p, "f", text)
	snap(t, p, "s")
	mustSync(t, p)
	check(t, p.Wait(c.ctx, WaitSnapshots))
	check(t, p.Wait(c.ctx, WaitHealthy))
	all, err := p.SnapshotNames(c.ctx)
	check(t, err)
	say(t, p, "f", "gone from the filesystem")
	mustSync(t, p)

	read := func(good bool) {
		t.Helper()
		s, err := p.OpenSnapshot(c.ctx, all[0])
		check(t, err)
		defer closePool(t, s)
		d, ok, err := s.Lookup(c.ctx, ondisk.InumRoot, "f")
		if check(t, err); !ok {
			t.Fatal("the file is not there")
		}
		buf := make([]byte, len(text))
		if err := s.ReadData(c.ctx, d.Inum, 0, buf); (err == nil) != good || good && !bytes.Equal(buf, raw) {
			t.Fatalf("read right: %v, want %v: %v", err == nil, good, err)
		}
	}
	await := func(n int, repaired bool) {
		t.Helper()
		for range n {
			select {
			case d := <-told:
				if err := <-failed; d.Label != "s" || (err == nil) != repaired {
					t.Errorf("%v of %q: %v, want repaired: %v", &d, d.Label, err, repaired)
				}
				if path := p.PathOfDamage(c.ctx, &d); path != "/.anvilfs/snapshots/s/f" {
					t.Errorf("path %q", path)
				}
			case <-c.ctx.Done():
				t.Fatal("nobody is told")
			}
		}
	}
	e := p.engine.(*engine)
	for i, m := range e.members {
		m.latency.Store(int64(1 + i)) // in this order they are read
	}
	c.hurtInSnapshot(p, "s", 0, 1)
	read(true)
	await(2, true)
	for i, r := range e.nodes()[:2] {
		if r.Bad != 1 || r.Repaired != 1 {
			t.Errorf("member %d: %d bad, %d repaired", i, r.Bad, r.Repaired)
		}
	}
	c.hurtInSnapshot(p, "s", 0, 1, 2)
	read(false)
	await(3, false)
	check(t, context.Cause(c.ctx))
}

// Symptom: what reads met of a filesystem with one copy was counted, and not listed.
func TestOneCopyTellsOfDamage(t *testing.T) {
	t.Parallel()
	c := &testCluster{t: t, ctx: t.Context(), fault: make([]*faultdev.Device, 1), gone: make([]bool, 1)}
	c.disks = []*memdev.Device{memdev.New(testVolume)}
	_, err := chain.Format(c.ctx, []ondisk.Device{c.disks[0]}, chain.FormatOptions{Labels: []chain.PFSSpec{{Label: "HOME", Type: ondisk.PFSMaster}}})
	check(t, err)
	type told struct {
		d   Damage
		err error
	}
	tells := make(chan told, 10)
	p := c.pool(Options{Damaged: func(d Damage, err error) { tells <- told{d, err} }})
	defer closePool(t, p)
	say(t, p, "f", strings.Repeat("text", 4000))
	mustSync(t, p)
	c.hurtInSnapshot(p, "HOME", 0)
	p.Refresh()
	d, ok, err := p.Lookup(c.ctx, ondisk.InumRoot, "f")
	if check(t, err); !ok {
		t.Fatal("the file is not there")
	}
	if err := p.ReadData(c.ctx, d.Inum, 0, make([]byte, 10)); err == nil {
		t.Fatal("it reads right")
	}
	select {
	case is := <-tells:
		if !errors.Is(is.err, ErrNotRepaired) || p.PathOfDamage(c.ctx, &is.d) != "/f" {
			t.Errorf("%v at %q: %v", &is.d, p.PathOfDamage(c.ctx, &is.d), is.err)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody is told")
	}
}

// Symptom: damage that a read of a copy met which is not committed yet was counted, and
// then looked for in no file, or nowhere at all: it stayed, and errors list told of
// nothing, or of the super-root.
func TestCopiesRepair(t *testing.T) {
	raw := make([]byte, ondisk.LogicalBlock)
	for i, r := 0, rand.New(rand.NewPCG(1, 2)); i < len(raw); i++ {
		raw[i] = byte(r.Uint32())
	}
	for what, copies := range map[string]func(c *testCluster, p *Pool, src, dst uint64){
		"of a file": func(c *testCluster, p *Pool, src, dst uint64) { shareAll(c.t, p, src, dst, len(raw)) },
		"of a snapshot": func(c *testCluster, p *Pool, src, dst uint64) {
			s := snapNamed(c.t, p, "s")
			call(c.t, p, func(tx *Txn) error {
				tx.PutInode(fileMeta(dst, uint64(len(raw))))
				_, err := tx.ShareSnapshot(c.ctx, s, src, 0, dst, 0, uint64(len(raw)))
				return err
			})
		},
	} {
		t.Run(what, func(t *testing.T) {
			c := newTestCluster(t, 3)
			told := make(chan Damage, 100)
			p := c.pool(Options{Commit: time.Hour, Damaged: func(d Damage, _ error) { told <- d }})
			defer closePool(t, p)
			src := makeFile(t, p, ondisk.InumRoot, "f", ondisk.ObjFile)
			write(t, p, src, 0, raw)
			snap(t, p, "s")
			e := p.engine.(*engine)
			for i, m := range e.members {
				m.latency.Store(1 + int64(i)*int64(time.Hour)) // in this order they are read
			}
			say(t, p, "g", "a commit, with which that order is taken")
			mustSync(t, p)
			check(t, p.Wait(c.ctx, WaitSnapshots))
			c.hurtInSnapshot(p, "s", 0)
			dst := makeFile(t, p, ondisk.InumRoot, "copy", ondisk.ObjFile)
			copies(c, p, src, dst)
			for limit := time.After(20 * time.Second); ; {
				wantFile(t, p, "the copy", dst, raw) // of another member, where the first is slow
				select {
				case d := <-told:
					if d.Inum != src || d.Key != 0 {
						t.Errorf("told of %v", &d)
					}
				case <-time.After(20 * time.Millisecond):
					continue
				case <-limit:
					t.Fatal("nobody is told")
				}
				break
			}
			if r := e.nodes()[0]; r.Bad == 0 || r.Repaired != 1 {
				t.Errorf("%d bad, %d repaired", r.Bad, r.Repaired)
			}
		})
	}
}
