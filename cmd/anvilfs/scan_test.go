package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// volume is a device with the header of volume id of n.
func volume(path string, fsid byte, id, n uint8, tid ondisk.Tid) foundDevice {
	return foundDevice{path: path, hdr: &ondisk.VolumeHeader{Fsid: ondisk.UUID{fsid}, VoluID: id, NVolumes: n, MirrorTid: tid}}
}

func TestVolumesOn(t *testing.T) {
	for _, c := range []struct {
		name string
		devs []foundDevice
		want string
	}{
		{"several", []foundDevice{volume("/a", 1, 0, 1, 5), volume("/b", 2, 0, 0, 5)}, "/a | /b"},
		{"in their order", []foundDevice{volume("/a", 1, 1, 2, 5), volume("/b", 1, 0, 2, 5)}, "/b:/a"},
		{"odd names", []foundDevice{volume("/a:1,2@x", 1, 0, 1, 5)}, `/a\:1\,2\@x`},
		{"copies", []foundDevice{volume("/a", 1, 0, 1, 5), volume("/b", 1, 0, 1, 6)}, "/a | /b"},
		{"copies of one of two", []foundDevice{volume("/a", 1, 0, 2, 5), volume("/b", 1, 0, 2, 5), volume("/c", 1, 1, 2, 5)},
			"/a:/b:/c (/a and /b are copies of one device: leave one of them out, and name the members)"},
		{"the second is missing", []foundDevice{volume("/a", 1, 0, 2, 5)}, "/a (device 2 of 2 of this member is not here)"},
		{"the first is missing", []foundDevice{volume("/b", 1, 1, 2, 5)}, "/b (device 1 of 2 of this member is not here)"},
		{"an addition that was cut off", []foundDevice{volume("/a", 1, 0, 1, 5), volume("/b", 1, 1, 2, 4)}, "/a"},
	} {
		var got []string
		for _, m := range volumesOn(c.devs) {
			text := m.name
			if m.err != nil {
				text += fmt.Sprintf(" (%v)", m.err)
			}
			got = append(got, text)
		}
		if text := strings.Join(got, " | "); text != c.want {
			t.Errorf("%s: %s, want %s", c.name, text, c.want)
		}
	}
}

// What a scan names can be given back to a mount.
func TestScanNamesAreSources(t *testing.T) {
	for _, path := range []string{"/dev/sdb", "/a b", "/a:b", "/a,b", "/a@b", `/a\b`, "/cache=x", "/ä\nö"} {
		s, err := parseSource(escapeName(path) + "@" + escapeLabel(`L@\B`))
		if err != nil || len(s.members) != 1 || !slices.Equal(s.members[0].paths, []string{path}) || s.label != `L@\B` {
			t.Errorf("%q: %s (%v)", path, s.describe(), err)
		}
		if again, err := parseSource(s.full()); err != nil || again.describe() != s.describe() {
			t.Errorf("%q in full: %s (%v), want %s", path, again.describe(), err, s.describe())
		}
	}
	if s, err := parseWanted("cache=/dev/nvme0n1@X"); err != nil || len(s.nodes()) != 0 || s.full() != "cache=/dev/nvme0n1@X" {
		t.Errorf("a cache before what is found: %s (%v)", s.full(), err)
	}
}

// holding is what a member found at name has of cluster 9.
func holding(name string, fsid byte, at ondisk.Tid, law *cluster.Charter) foundMember {
	m := found([]string{name})
	m.holds = []cluster.Holding{{Label: "HOME", Clid: ondisk.UUID{9}, Fsid: ondisk.UUID{fsid}, Role: ondisk.PFSMaster, T: at, Charter: law}}
	return m
}

// charter is one of masters with these ids.
func charter(version uint32, ids ...byte) *cluster.Charter {
	c := &cluster.Charter{}
	c.Config.Version = version
	for _, id := range ids {
		c.Config.Members = append(c.Config.Members, cluster.Member{Fsid: ondisk.UUID{id}, Role: ondisk.PFSMaster})
	}
	return c
}

func TestFilesystems(t *testing.T) {
	old, now := charter(1, 1, 2, 3), charter(2, 1, 2, 4)
	foreign := holding("/c", 3, 90, old)
	foreign.holds[0].Why = "changed by another system"
	fast := holding("/f", 7, 16, nil)
	fast.holds[0].Role = ondisk.PFSCache
	for _, c := range []struct {
		name    string
		members []foundMember
		want    string
	}{
		{"whole", []foundMember{holding("/b", 2, 9, old), holding("/a", 1, 9, old), holding("/c", 3, 8, old)},
			"all members are here; /a,/b,/c@HOME; /a newest, /b newest, /c behind"},
		{"a majority", []foundMember{holding("/a", 1, 9, old), holding("/b", 2, 9, old)},
			"one member is not here: what is here is enough; /a,/b@HOME; /a newest, /b newest, seen 3 not here"},
		{"a minority", []foundMember{holding("/a", 1, 9, old)},
			"2 members are not here: no majority of the masters is here, so changes would wait for more; /a@HOME; /a newest, seen 2 not here, seen 3 not here"},
		{"one was replaced, and is ahead of it by itself", []foundMember{holding("/a", 1, 9, now), holding("/b", 2, 9, now), holding("/c", 3, 99, old), holding("/d", 4, 0, nil)},
			"all members are here, 1 of them with a fault: what is here is enough; /a,/b,/d@HOME; /a newest, /b newest, /c no member any more, /d nothing was copied to it yet"},
		{"what is here was replaced", []foundMember{holding("/c", 3, 9, now)},
			"what is here is of no use to it any more; @HOME; /c no member any more, seen 1 not here, seen 2 not here, seen 4 not here"},
		{"half of what is here does not count", []foundMember{holding("/a", 1, 9, old), foreign},
			"one member is not here: no majority of the masters is here, so changes would wait for more; /a,/c@HOME; /a newest, /c changed by another system, seen 2 not here"},
		{"a cache", []foundMember{holding("/a", 1, 9, old), holding("/b", 2, 9, old), holding("/c", 3, 9, old), fast},
			"all members are here; /a,/b,/c@HOME; /a newest, /b newest, /c newest, /f a cache, used by a mount that is given cache=/f"},
		{"a cache of one copy", []foundMember{fast, holding("/s", 1, 9, nil)},
			"a filesystem of one copy; /s@HOME; /f a cache, used by a mount that is given cache=/f, /s newest"},
		{"a cache alone", []foundMember{fast}, "nothing but a cache of it is here; @HOME; /f a cache, used by a mount that is given cache=/f"},
		{"one was changed by others", []foundMember{holding("/a", 1, 9, old), holding("/b", 2, 9, old), foreign},
			"all members are here, 1 of them with a fault: what is here is enough; /a,/b,/c@HOME; /a newest, /b newest, /c changed by another system"},
	} {
		list := filesystems(c.members, func(_, fsid string) string { return "seen " + strings.Trim(fsid, "0-") })
		if len(list) != 1 {
			t.Errorf("%s: %d filesystems", c.name, len(list))
			continue
		}
		f := list[0]
		var nodes []string
		for _, n := range slices.Concat(f.Nodes, f.Missing) {
			nodes = append(nodes, n.Name+" "+n.State)
		}
		if got := strings.Join([]string{f.headline(), f.Source, strings.Join(nodes, ", ")}, "; "); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// Symptom: a device that was taken out was all that mount @HOME found, or kept it from
// knowing which filesystem is meant; what it typed was refused.
func TestScanNamesNothingThatIsLeftOver(t *testing.T) {
	left := holding("/c", 3, 9, charter(2, 1, 2, 4))
	r := &scanReport{devices: true, Filesystems: filesystems([]foundMember{left}, func(string, string) string { return "" })}
	var out strings.Builder
	r.print(&out)
	if got := r.named("HOME"); len(got) != 0 || strings.Contains(out.String(), "type") {
		t.Errorf("%d filesystems; %s", len(got), out.String())
	}
}

// Names are put in the order in which people count, in all that a scan lists.
func TestScanCountsAsPeopleDo(t *testing.T) {
	want := []string{"a", "a1", "a01", "a1b", "a2", "a10", "a10a9", "a10a10", "ab", "b99999999999999999999", "b100000000000000000000"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, compareNames)
	if want[1], want[2] = want[2], want[1]; !slices.Equal(got, want) { // equal numbers: as the bytes are
		t.Errorf("sorted %v", got)
	}
	law := charter(1, 1, 2)
	list := filesystems([]foundMember{holding("/loop10", 2, 9, law), holding("/loop8", 1, 9, law)}, func(string, string) string { return "" })
	if list[0].Source != "/loop8,/loop10@HOME" {
		t.Errorf("to be mounted as %s", list[0].Source)
	}
}

// Devices without a medium, and those that others are made of, are no members.
func TestBlockDevices(t *testing.T) {
	root := t.TempDir()
	for name, size := range map[string]string{"sda": "100\n", "sr0": "0\n", "sdb": "100\n", "dm-0": "100\n", "cciss!c0d0": "100\n"} {
		dir := filepath.Join(root, "sys/class/block", name)
		if err := os.MkdirAll(filepath.Join(dir, "holders"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "size"), []byte(size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "sys/class/block/sdb/holders/dm-0"), 0o755); err != nil {
		t.Fatal(err)
	}
	list, err := blockDevices(root)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, name := range []string{"cciss/c0d0", "dm-0", "sda"} {
		want = append(want, filepath.Join(root, "dev", name))
	}
	if slices.Sort(list); !slices.Equal(list, want) {
		t.Errorf("%q, want %q", list, want)
	}
}

// A volume whose first header is gone is found by the one beside it, as a mount finds
// it; one with none that is sound is named as damaged, and not passed over.
func TestScanOfDamagedHeaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if code := run(t.Context(), []string{"anvilfs", "newfs", "-q", "-s", "64m", path}, os.Stdout, os.Stderr); code != 0 {
		t.Fatalf("newfs: %d", code)
	}
	spoil := func(off int64) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte("torn"), off+200); err != nil {
			t.Fatal(err)
		}
	}
	spoil(0)
	if d := lookAt(path, t.Context()); d.err != nil || d.hdr == nil {
		t.Errorf("with a damaged first header: %v, %v", d.hdr, d.err)
	}
	spoil(ondisk.ReservedSize - ondisk.HeaderSize)
	if d := lookAt(path, t.Context()); d.hdr != nil || !errors.Is(d.err, ondisk.ErrCorrupt) {
		t.Errorf("with none that is sound: %v, %v", d.hdr, d.err)
	}
}

// Symptom: a directory with an image and a link to it had the member twice.
func TestScanTakesEachOnce(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"a", "b", "empty1", "empty2"} {
		if err := os.WriteFile(at(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"c": "a", "d": "b"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(at("b"), at("e")); err != nil {
		t.Fatal(err)
	}
	got, err := filesIn([]string{at("d"), dir, at("a")})
	want := []string{at("d"), at("a"), at("empty1"), at("empty2")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	gone := at("gone") // what is not there is for others to say
	if got := eachOnce([]string{gone, at("a"), gone}); len(got) != 3 {
		t.Errorf("%v", got)
	}
}

// A label is told on the one line that it heads, whatever is in it.
func TestScanOfLabelWithLineEnd(t *testing.T) {
	var out strings.Builder
	r := scanReport{Filesystems: []*foundFS{{Label: "a\nb", Source: "l.img"}}}
	r.print(&out)
	if line, _, _ := strings.Cut(out.String(), "\n"); !strings.HasPrefix(line, `a\nb: `) {
		t.Errorf("the first line is %q", line)
	}
}
