package merge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
	resync "github.com/anvilfs/anvilfs/sync"
)

// A stage is a cluster of one master and a soft master, on devices in memory.
type stage struct {
	t   testing.TB
	ctx context.Context
	w   *rig.World
	log *slog.Logger

	pool *cluster.Pool
	fs   *fs.FS
	stop func() // resyncs

	brief func([]byte) string
}

const home, soft = 0, 1 // members

func newStage(t testing.TB) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	w, err := rig.NewRoles(ctx, []ondisk.PFSType{ondisk.PFSMaster, ondisk.PFSSoftMaster}, 128<<20)
	s := &stage{t: t, ctx: ctx, w: w, log: slog.New(slog.DiscardHandler), brief: brief}
	s.must(err)
	return s
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// open mounts members, without a kernel.
func (s *stage) open(members ...int) {
	s.t.Helper()
	var specs []cluster.MemberSpec
	for _, i := range members {
		specs = append(specs, s.w.Members[i].Spec())
	}
	var err error
	s.pool, err = cluster.OpenPool(s.ctx, specs, cluster.Options{Label: rig.Label, Logger: s.log})
	s.must(err)
	s.fs, err = fs.New(s.ctx, fs.OnPool(s.pool), false, fs.Options{NoAtime: true, Logger: s.log})
	s.must(err)
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan struct{})
	go func() { defer close(done); resync.NewManager(s.pool, resync.Options{Logger: s.log}).Run(ctx) }()
	s.stop = func() { cancel(); <-done }
}

func (s *stage) close() {
	s.t.Helper()
	s.stop()
	s.must(s.fs.Close(s.ctx))
	s.must(s.pool.Close(s.ctx))
}

// state waits for a state of the soft master.
func (s *stage) state(want cluster.NodeState) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		changed := s.pool.Changed()
		st := s.pool.Status()
		for _, n := range st.Nodes {
			if n.Name == rig.Name(soft) && n.State == want && (n.Lag == 0 || want != cluster.NodeInSync) {
				return
			}
		}
		if time.Now().After(end) {
			s.t.Fatalf("not %s: %+v", want, st.Nodes)
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// part plays what happens before, on the branch, and in the cluster; then both
// are back together, and the branch waits to be merged.
func (s *stage) part(base, ours, theirs func()) {
	s.t.Helper()
	s.open(home, soft)
	s.state(cluster.NodeInSync)
	base()
	s.must(s.pool.NodeOffline(s.ctx, rig.Name(soft)))
	s.close()
	s.open(soft)
	ours()
	s.close()
	s.open(home)
	theirs()
	s.close()
	s.open(home, soft)
	s.state(cluster.NodeBranch)
}

func (s *stage) branch() *cluster.BranchNode {
	s.t.Helper()
	list := s.pool.Branches()
	if len(list) != 1 {
		s.t.Fatalf("%d branches", len(list))
	}
	return &list[0]
}

func (s *stage) run(o Options) *Run {
	s.t.Helper()
	o.Logger = s.log
	return New(s.fs, s.pool, s.branch(), o)
}

// merge brings the branch back to its end.
func (s *stage) merge(o Options) *Run {
	s.t.Helper()
	b := s.branch()
	r := s.run(o)
	s.must(r.Merge(s.ctx))
	told, waited := s.pool.Subscribe(), s.whenResynced()
	kept, err := s.pool.EndBranch(s.ctx, b)
	s.must(err)
	if !strings.HasPrefix(kept, "branch-b.img-") {
		s.t.Fatalf("the branch is kept as %q", kept)
	}
	s.must(r.Finish(s.ctx))
	s.state(cluster.NodeInSync)
	if state := <-waited; state != cluster.NodeInSync {
		s.t.Errorf("waiting for the resync ended when the node was %s", state)
	}
	for len(told) > 0 {
		if e := <-told; e.Node == b.Name && (e.What == string(cluster.NodeOffline) || e.What == string(cluster.NodeFailed)) {
			s.t.Errorf("the end of a merge was told as: %s %s", e.What, e.Error)
		}
	}
	return r
}

// whenResynced says what the soft node was when waiting for the resync ended.
func (s *stage) whenResynced() <-chan cluster.NodeState {
	waited := make(chan cluster.NodeState, 1)
	go func() {
		if err := s.pool.Wait(s.ctx, cluster.WaitResync); err != nil {
			s.t.Error(err)
		}
		for _, n := range s.pool.Status().Nodes {
			if n.Name == rig.Name(soft) {
				waited <- n.State
				return
			}
		}
		waited <- ""
	}()
	return waited
}

// do plays lines of a script.
func (s *stage) do(script string) {
	s.t.Helper()
	for line := range strings.Lines(script) {
		if w := strings.Fields(line); len(w) > 0 {
			if err := s.step(w); err != nil {
				s.t.Fatalf("%s: %v", strings.TrimSpace(line), err)
			}
		}
	}
}

func (s *stage) step(w []string) error {
	ctx, f := s.ctx, s.fs
	arg := func(i int) string { return w[min(i, len(w)-1)] }
	switch w[0] {
	case "write":
		return s.write(arg(1), []byte(arg(2)))
	case "fill":
		return s.write(arg(1), bytes.Repeat([]byte(arg(2)), 300_000))
	case "poke": // one byte in the middle
		inum, err := s.find(arg(1))
		if err == nil {
			_, err = f.Write(ctx, inum, 1_000_000, []byte(arg(2)), false)
		}
		return err
	case "mkdir":
		dir, name, err := s.parent(arg(1))
		if err == nil {
			_, err = f.Create(ctx, dir, name, fs.NewNode{Type: ondisk.ObjDir, Mode: 0o755})
		}
		return err
	case "symlink":
		dir, name, err := s.parent(arg(1))
		if err == nil {
			_, err = f.Create(ctx, dir, name, fs.NewNode{Type: ondisk.ObjSymlink, Mode: 0o777, Target: arg(2)})
		}
		return err
	case "rm", "rmdir":
		dir, name, err := s.parent(arg(1))
		if err == nil && w[0] == "rm" {
			return f.Unlink(ctx, dir, name)
		} else if err == nil {
			return f.Rmdir(ctx, dir, name)
		}
		return err
	case "mv", "swap":
		from, a, err := s.parent(arg(1))
		to, b, err2 := s.parent(arg(2))
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		flags := fs.RenameFlags(0)
		if w[0] == "swap" {
			flags = fs.RenameExchange
		}
		return f.Rename(ctx, from, a, to, b, flags)
	case "ln":
		inum, err := s.find(arg(1))
		dir, name, err2 := s.parent(arg(2))
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		_, err = f.Link(ctx, inum, dir, name)
		return err
	case "chmod", "touch", "attr":
		return s.attrs(w)
	}
	return fmt.Errorf("no such step")
}

func (s *stage) attrs(w []string) error {
	inum, err := s.find(w[1])
	if err != nil {
		return err
	}
	switch w[0] {
	case "attr":
		return s.fs.SetXattr(s.ctx, inum, "user."+w[2], []byte(w[3]), 0, false)
	case "touch":
		_, err = s.fs.Setattr(s.ctx, inum, fs.Change{Mtime: &fs.Stamp{Sec: 1e9}})
		return err
	}
	var mode uint32
	if _, err := fmt.Sscanf(w[2], "%o", &mode); err != nil {
		return err
	}
	_, err = s.fs.Setattr(s.ctx, inum, fs.Change{Mode: &mode})
	return err
}

// write replaces the content of a file, which it makes if it has to.
func (s *stage) write(path string, content []byte) error {
	dir, name, err := s.parent(path)
	if err != nil {
		return err
	}
	d, ok, err := s.fs.Find(s.ctx, dir, name)
	if err == nil && !ok {
		var rec *fs.Record
		rec, err = s.fs.Create(s.ctx, dir, name, fs.NewNode{Type: ondisk.ObjFile, Mode: 0o644})
		if rec != nil {
			d.Inum = rec.Meta.Inum
		}
	}
	if err != nil {
		return err
	}
	size := uint64(len(content))
	if _, err := s.fs.Setattr(s.ctx, d.Inum, fs.Change{Size: &size}); err != nil {
		return err
	}
	for off := 0; off < len(content); off += 1 << 20 {
		if _, err := s.fs.Write(s.ctx, d.Inum, uint64(off), content[off:min(len(content), off+1<<20)], false); err != nil {
			return err
		}
	}
	return nil
}

var errNoPath = errors.New("no such path")

func (s *stage) parent(path string) (dir uint64, name string, err error) {
	dir = ondisk.InumRoot
	up, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		up, name = path[:i], path[i+1:]
		dir, err = s.find(up)
	}
	return dir, name, err
}

func (s *stage) find(path string) (uint64, error) {
	at := uint64(ondisk.InumRoot)
	for _, part := range strings.Split(path, "/") {
		d, ok, err := s.fs.Find(s.ctx, at, part)
		if err != nil {
			return 0, err
		}
		if !ok {
			return 0, fmt.Errorf("%s: %w", path, errNoPath)
		}
		at = d.Inum
	}
	return at, nil
}

// show lists all that there is, and the conflicts.
func (s *stage) show() string {
	s.t.Helper()
	var out strings.Builder
	inodes := make(map[uint64]string)
	s.list(&out, inodes, ondisk.InumRoot, "")
	c, err := ReadConflicts(s.ctx, s.fs)
	s.must(err)
	for _, k := range c.List {
		fmt.Fprintf(&out, "conflict %s: %s", k.Path, k.What)
		if k.Copy != "" {
			fmt.Fprintf(&out, ": %s", k.Copy)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

func (s *stage) list(out *strings.Builder, seen map[uint64]string, dir uint64, path string) {
	s.t.Helper()
	var all []ondisk.Dirent
	s.must(s.fs.List(s.ctx, dir, func(d ondisk.Dirent) bool { all = append(all, d); return true }))
	slices.SortFunc(all, func(a, b ondisk.Dirent) int { return strings.Compare(a.Name, b.Name) })
	for _, d := range all {
		rec, ok, err := s.fs.Current(s.ctx, d.Inum)
		s.must(err)
		if !ok || rec.Meta.Nlinks == 0 {
			s.t.Fatalf("%s%s leads to inode %d, which is not there", path, d.Name, d.Inum)
		}
		fmt.Fprintf(out, "%s%s", path, d.Name)
		if rec.Meta.Mode != 0o644 && rec.Meta.Mode != 0o755 && rec.Meta.Mode != 0o777 {
			fmt.Fprintf(out, " mode %o", rec.Meta.Mode)
		}
		names, err := s.fs.ListXattr(s.ctx, d.Inum)
		s.must(err)
		for _, n := range names {
			v, err := s.fs.GetXattr(s.ctx, d.Inum, n)
			s.must(err)
			fmt.Fprintf(out, " %s=%s", n, v)
		}
		switch first := seen[d.Inum]; {
		case d.Type == ondisk.ObjDir:
			out.WriteString("/\n")
			s.list(out, seen, d.Inum, path+d.Name+"/")
			continue
		case first != "":
			fmt.Fprintf(out, " is %s\n", first)
			continue
		}
		seen[d.Inum] = path + d.Name
		b := make([]byte, rec.Meta.Size)
		err = s.fs.Graft(s.ctx, []uint64{d.Inum}, func(g *fs.Graft) error { return g.Read(s.ctx, d.Inum, 0, b) })
		s.must(err)
		fmt.Fprintf(out, " = %s\n", s.brief(b))
	}
}

// brief tells a long content by its parts.
func brief(b []byte) string {
	if len(b) < 100 {
		return string(b)
	}
	var out strings.Builder
	for i := 0; i < len(b); {
		j := i
		for j < len(b) && b[j] == b[i] {
			j++
		}
		if j-i > 3 {
			fmt.Fprintf(&out, "%c*%d ", b[i], j-i)
			i = j
			continue
		}
		out.WriteByte(b[i])
		i++
	}
	return strings.TrimSpace(out.String())
}

// sound demands of what was unmounted that both members hold the same, and that
// fsck finds nothing.
func (s *stage) sound() {
	s.t.Helper()
	var first *rig.Tree
	for _, m := range s.w.Members {
		found, err := m.Fsck(s.ctx)
		s.must(err)
		for _, f := range found {
			s.t.Errorf("fsck of %s: %v", m.Name, f)
		}
		tree, err := m.Tree(s.ctx)
		s.must(err)
		if first == nil {
			first = tree
		} else if d := first.Difference(tree); d != "" {
			s.t.Errorf("the members differ: %s", d)
		}
	}
}
