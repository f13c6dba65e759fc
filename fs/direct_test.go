package fs

import (
	"context"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// The kernel keeps a directory from moving below itself as far as it sees the
// tree; what another mount did meanwhile it does not see.
func TestRenameBelowItself(t *testing.T) {
	ctx := context.Background()
	f, err := New(ctx, newMemStore(), false, Options{})
	must(t, err)
	defer f.Close(ctx)
	made := []uint64{ondisk.InumRoot}
	for _, name := range []string{"a", "b", "c"} {
		r, err := f.Create(ctx, made[len(made)-1], name, NewNode{Type: ondisk.ObjDir, Mode: 0o755})
		must(t, err)
		made = append(made, r.Meta.Inum)
	}
	a, b, c := made[1], made[2], made[3]
	wantErr(t, f.Rename(ctx, ondisk.InumRoot, "a", c, "x", 0), errInvalid)
	wantErr(t, f.Rename(ctx, ondisk.InumRoot, "a", a, "x", 0), errInvalid)
	wantErr(t, f.Rename(ctx, b, "c", ondisk.InumRoot, "a", RenameExchange), errInvalid)
	must(t, f.Rename(ctx, b, "c", ondisk.InumRoot, "c", 0))
	must(t, f.Rename(ctx, ondisk.InumRoot, "a", c, "a", 0))
	for i, want := range []uint64{c, a, ondisk.InumRoot} {
		rec, err := f.Stat(ctx, []uint64{a, b, c}[i])
		must(t, err)
		wantEqual(t, "parent", rec.Meta.Iparent, want)
	}
}

// A file that lost its last name keeps its content for whom has it open, and
// goes when the last of them is done.
func TestUnlinkedStaysOpen(t *testing.T) {
	ctx := context.Background()
	store := newMemStore()
	f, err := New(ctx, store, false, Options{})
	must(t, err)
	r, err := f.Create(ctx, ondisk.InumRoot, "f", NewNode{Type: ondisk.ObjFile, Mode: 0o600})
	must(t, err)
	inum, data := r.Meta.Inum, make([]byte, 100000)
	data[99999] = 'x'
	_, err = f.Write(ctx, inum, 0, data, false)
	must(t, err)
	must(t, f.Unlink(ctx, ondisk.InumRoot, "f"))
	must(t, f.reaper.close(ctx)) // what it was given is deleted
	if _, ok, err := store.Inode(ctx, inum); err != nil || !ok {
		t.Fatalf("deleted while it is open: %v", err)
	}
	got := make([]byte, len(data))
	n, err := f.Read(ctx, inum, 0, got)
	must(t, err)
	wantEqual(t, "bytes", n, len(data))
	wantEqual(t, "the last", got[n-1], 'x')
	f.reaper = newReaper(f)
	f.Forget(inum, 1)
	must(t, f.Close(ctx))
	if _, ok, err := store.Inode(ctx, inum); err != nil || ok {
		t.Errorf("it stays when nobody has it: %v", err)
	}
}

// Each call sets the times that POSIX says, and no others.
func TestTimes(t *testing.T) {
	ctx := context.Background()
	now := time.Unix(1000, 5)
	f, err := New(ctx, newMemStore(), false, Options{Now: func() time.Time { return now }})
	must(t, err)
	defer f.Close(ctx)
	const root = ondisk.InumRoot
	d, err := f.Create(ctx, root, "d", NewNode{Type: ondisk.ObjDir, Mode: 0o755})
	must(t, err)
	dir := d.Meta.Inum
	r, err := f.Create(ctx, dir, "f", NewNode{Type: ondisk.ObjFile, Mode: 0o600})
	must(t, err)
	inum := r.Meta.Inum
	size, mode := uint64(70000), uint32(0o640)
	for _, c := range []struct {
		what string
		call func() error
		set  string // m, c of the file; M, C of the directory
	}{
		{"write", func() error { _, err := f.Write(ctx, inum, 0, []byte("x"), false); return err }, "mc"},
		{"a large write", func() error { _, err := f.Write(ctx, inum, 0, make([]byte, 90000), false); return err }, "mc"},
		{"truncate", func() error { _, err := f.Setattr(ctx, inum, Change{Size: &size}); return err }, "mc"},
		{"chmod", func() error { _, err := f.Setattr(ctx, inum, Change{Mode: &mode}); return err }, "c"},
		{"link", func() error { _, err := f.Link(ctx, inum, dir, "g"); return err }, "cMC"},
		{"rename", func() error { return f.Rename(ctx, dir, "g", dir, "h", 0) }, "cMC"},
		{"unlink", func() error { return f.Unlink(ctx, dir, "h") }, "cMC"},
		{"create", func() error { _, err := f.Create(ctx, dir, "i", NewNode{Type: ondisk.ObjFile}); return err }, "MC"},
		{"read", func() error { _, err := f.Read(ctx, inum, 0, make([]byte, 10)); return err }, ""},
	} {
		now = now.Add(time.Hour)
		must(t, c.call())
		got := ""
		for _, of := range []struct {
			inum   uint64
			letter [2]string
		}{{inum, [2]string{"m", "c"}}, {dir, [2]string{"M", "C"}}} {
			rec, err := f.Stat(ctx, of.inum)
			must(t, err)
			if rec.Meta.Mtime == uint64(now.UnixMicro()) {
				got += of.letter[0]
			}
			if rec.Meta.Ctime == uint64(now.UnixMicro()) {
				got += of.letter[1]
			}
		}
		wantEqual(t, c.what+" sets", got, c.set)
	}
}
