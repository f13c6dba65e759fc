package show

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/golden"
)

func text(t *testing.T, fn func(ctx context.Context, w io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := fn(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func want(t *testing.T, got string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(got, p) {
			t.Errorf("%q is missing in:\n%s", p, got)
		}
	}
}

// The numbers are those of the worked example in the format's description.
func TestSmall(t *testing.T) {
	devs := []ondisk.Device{golden.Device(t, "small")}
	want(t, text(t, func(ctx context.Context, w io.Writer) error { return Volume(ctx, w, devs) }),
		"slot 0 at 0x0: version 2, mirror_tid 0x11", "<- in use", "0078 mirror_tid       0x11 (0:17)",
		"0068 allocator_free   2004336640", "freemap_blockset[0]", "never anvilfs")
	want(t, text(t, func(ctx context.Context, w io.Writer) error { return PFSs(ctx, w, devs) }),
		"DATA\n", "LOCAL\n", "role master", "highest inode number 1100", "at 0x8813400.10")
	want(t, text(t, func(ctx context.Context, w io.Writer) error {
		return Freemap(ctx, w, devs, FreemapOptions{Zone: AllZones, Segments: true})
	}), "zone 0 at 0x0: leaf in copy 0 at 0x10000", "segment  34 at 0x8800000: class 0x0110 linear 0x13c00 avail 0x3ec000", "|#####   ", "1 of 2 zones have no leaf")
	want(t, text(t, func(ctx context.Context, w io.Writer) error { return Inode(ctx, w, devs, "DATA", "/hello.txt") }),
		"inode    000000000000040b/0", "at 0x8803000.10", "mode         0600", "hello, hammer2")
	want(t, text(t, func(ctx context.Context, w io.Writer) error { return Inode(ctx, w, devs, "DATA", "1") }),
		`"hello.txt" -> file 1035`, "pfs_inum     1100")
	got := text(t, func(ctx context.Context, w io.Writer) error { return Chain(ctx, w, devs, "DATA", 3) })
	want(t, got, "indirect 0000000000000400/7", "indirect 8000000000000000/63", `"hello.txt"`)
	if all := text(t, func(ctx context.Context, w io.Writer) error { return Chain(ctx, w, devs, "", 0) }); strings.Count(all, "\n") < 200 || strings.Contains(all, "!!") {
		t.Errorf("the whole tree is short or damaged:\n%s", all)
	}
}

func TestDamaged(t *testing.T) {
	devs := []ondisk.Device{golden.Device(t, "damaged-data")}
	want(t, text(t, func(ctx context.Context, w io.Writer) error { return Inode(ctx, w, devs, "DATA", "/k40") }), "data ", "!! ")
	want(t, text(t, func(ctx context.Context, w io.Writer) error { return Chain(ctx, w, devs, "", 0) }), "!! ")
	want(t, text(t, func(ctx context.Context, w io.Writer) error { return Find(ctx, w, devs, 0x8c104d2) }), "PFSROOT", "data     ", "!! ")
	want(t, text(t, func(ctx context.Context, w io.Writer) error { return Find(ctx, w, devs, 0x3fffffff) }), "nothing in the tree")
	devs = []ondisk.Device{golden.Device(t, "damaged-header")}
	want(t, text(t, func(ctx context.Context, w io.Writer) error { return Volume(ctx, w, devs) }),
		"slot 2 at 0x100000000:\n", "code of sector 1", "in use, slot 1")
}

// A table that cannot be read is told in its place, and the rest is shown.
func TestDamagedTable(t *testing.T) {
	dev := golden.Device(t, "small")
	devs := []ondisk.Device{dev}
	if _, err := dev.WriteAt([]byte{0xFF}, 0x8c0c000); err != nil { // the index block of DATA
		t.Fatal(err)
	}
	want(t, text(t, func(ctx context.Context, w io.Writer) error { return Chain(ctx, w, devs, "DATA", 0) }), "!! ", `"hello.txt"`)
	if err := Inode(context.Background(), io.Discard, devs, "DATA", "/hello.txt"); err == nil {
		t.Error("an inode behind a damaged table is shown")
	}
	if err := Inode(context.Background(), io.Discard, devs, "NONE", "/"); err == nil {
		t.Error("a PFS that is not there is shown")
	}
}
