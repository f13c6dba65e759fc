package advice

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/sync/ledger"
	"github.com/anvilfs/anvilfs/sync/scrub"
)

var rewrite = flag.Bool("rewrite", false, "write the results of the table in testdata; look at the difference")

const tablePath = "testdata/advice.txt"

// TestTable runs testdata/advice.txt: a status in words, the advice behind
// the line of dashes.
func TestTable(t *testing.T) {
	old, err := os.ReadFile(tablePath)
	if err != nil {
		t.Fatal(err)
	}
	var fresh bytes.Buffer
	cases := strings.Split(strings.TrimSpace(string(old)), "\n\n\n")
	if len(cases) < 15 {
		t.Fatalf("only %d cases", len(cases))
	}
	for i, c := range cases {
		in, want, _ := strings.Cut(c, "\n----\n")
		got := show(For(status(t, in), &Integrity{}, "/mnt", bytesOf))
		if got != strings.TrimSpace(want) && !*rewrite {
			t.Errorf("%s\n--- got\n%s\n--- want\n%s", in, got, want)
		}
		if i > 0 {
			fresh.WriteString("\n\n")
		}
		fmt.Fprintf(&fresh, "%s\n----\n%s\n", in, got)
	}
	if *rewrite {
		if err := os.WriteFile(tablePath, fresh.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func bytesOf(n uint64) string { return fmt.Sprint(n, " B") }

// status reads lines: "health quorum-in-sync/masters", "node NAME ROLE STATE
// [BAD/REPAIRED] [ERROR...]", "space AVAIL TOTAL PENDING", "dirty BYTES",
// "commit ERROR...", "failed ERROR..." and others of a resync, "seen PLACE...". What begins with # is a remark.
func status(t *testing.T, text string) *cluster.Status {
	t.Helper()
	st := &cluster.Status{Space: cluster.SpaceStatus{Total: 1000, Avail: 1000}}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case f[0] == "#":
		case f[0] == "conflicts":
			fmt.Sscan(f[1], &st.Conflicts)
		case f[0] == "node":
			n := cluster.NodeStatus{Name: f[1], Role: f[2], State: cluster.NodeState(f[3])}
			rest := f[4:]
			if len(rest) > 0 {
				if c, _ := fmt.Sscanf(rest[0], "%d/%d", &n.Bad, &n.Repaired); c == 2 {
					rest = rest[1:]
				}
			}
			n.Error = strings.Join(rest, " ")
			st.Nodes = append(st.Nodes, n)
		case f[0] == "seen": // where the node above was
			st.Nodes[len(st.Nodes)-1].LastSeen = strings.Join(f[1:], " ")
		case f[0] == "unreadable": // the node above
			st.Nodes[len(st.Nodes)-1].Unreadable = true
		case f[0] == "size": // of the node above
			fmt.Sscan(f[1], &st.Nodes[len(st.Nodes)-1].Total)
		case f[0] == "free": // likewise
			fmt.Sscan(f[1], &st.Nodes[len(st.Nodes)-1].Free)
		case f[0] == "noroom": // as failed
			st.Nodes[len(st.Nodes)-1].Resync = map[string]any{"state": "failed", "error": strings.Join(f[1:], " "), "no_room": true}
		case f[0] == "noroombefore": // and is tried again at this moment
			st.Nodes[len(st.Nodes)-1].Resync = map[string]any{"state": "copying", "no_room_before": strings.Join(f[1:], " ")}
		case f[0] == "nosnapshots": // as noroom, of the snapshots that the node above lacks
			st.Nodes[len(st.Nodes)-1].Resync = map[string]any{"state": "failed", "mode": "snapshots", "error": strings.Join(f[1:], " "), "no_room": true}
		case f[0] == "nosnapshotsbefore":
			st.Nodes[len(st.Nodes)-1].Resync = map[string]any{"state": "copying", "mode": "snapshots", "no_room_before": strings.Join(f[1:], " ")}
		case f[0] == "failed": // the run that brings the node above in sync
			st.Nodes[len(st.Nodes)-1].Resync = map[string]any{"state": "failed", "error": strings.Join(f[1:], " ")}
		case f[0] == "space":
			scan(t, line, "space %d %d %d", &st.Space.Avail, &st.Space.Total, &st.Space.Pending)
		case f[0] == "dirty":
			scan(t, line, "dirty %d", &st.Dirty.Bytes)
		case f[0] == "shutdown":
			st.ShutDown = true
		case f[0] == "commit":
			st.CommitError = strings.Join(f[1:], " ")
		default:
			st.Health = cluster.Health(f[0])
			scan(t, f[1], "%d/%d", &st.Quorum.InSync, &st.Quorum.Masters)
			st.Quorum.Need = st.Quorum.Masters/2 + 1
		}
	}
	return st
}

func scan(t *testing.T, text, format string, into ...any) {
	t.Helper()
	if n, err := fmt.Sscanf(text, format, into...); n != len(into) {
		t.Fatalf("%q: %v", text, err)
	}
}

func show(list []Advice) string {
	var b strings.Builder
	for _, a := range list {
		fmt.Fprintf(&b, "%s %s\n", []string{"note", "warning", "critical"}[a.Level], a.What)
		for _, line := range []struct{ word, text string }{{"risk", a.Risk}, {"soon", a.Soon}, {"type", a.Do}} {
			if line.text != "" {
				fmt.Fprintf(&b, "  %s %s\n", line.word, line.text)
			}
		}
	}
	if b.Len() == 0 {
		return "nothing"
	}
	return strings.TrimSpace(b.String())
}

func TestIntegrity(t *testing.T) {
	sound := &cluster.Status{}
	synced := &cluster.Status{Nodes: []cluster.NodeStatus{{Name: "a", State: cluster.NodeInSync}}}
	damaged := &cluster.Status{Space: sound.Space, Nodes: []cluster.NodeStatus{
		{Name: "a", Bad: 3, Repaired: 1, State: cluster.NodeInSync}, {Name: "b", State: cluster.NodeInSync}}}
	for _, c := range []struct {
		name string
		i    Integrity
		st   *cluster.Status
		want string
	}{
		{"nobody looks", Integrity{}, sound, "nothing"},
		{"all is well", Integrity{Scrub: &scrub.Report{Phase: scrub.Done}, Errors: &ledger.Report{}}, sound, "nothing"},
		{"bad", Integrity{Errors: &ledger.Report{Bad: 2}}, sound,
			"warning 2 places in files are bad and were not repaired.\n  risk The files cannot be read there, or read as one of several versions.\n" +
				"  soon It is tried again from time to time.\n  type anvilfs errors list /mnt"},
		{"a header", Integrity{Errors: &ledger.Report{Bad: 1, Headers: 1}}, sound,
			"warning 1 copy of a volume header is bad and was not repaired.\n  risk After a crash it may be that copy which is needed.\n" +
				"  soon It is tried again from time to time.\n  type anvilfs errors list /mnt"},
		{"a file, and headers", Integrity{Errors: &ledger.Report{Bad: 3, Headers: 2}}, sound,
			"warning 1 place in a file is bad and was not repaired.\n  risk The files cannot be read there, or read as one of several versions.\n" +
				"  soon It is tried again from time to time.\n  type anvilfs errors list /mnt\n" +
				"warning 2 copies of volume headers are bad and were not repaired.\n  risk After a crash it may be that copy which is needed.\n" +
				"  soon It is tried again from time to time.\n  type anvilfs errors list /mnt"},
		{"of another filesystem", Integrity{Errors: &ledger.Report{Bad: 1, Other: 1}}, sound,
			"warning 1 place in another filesystem of these devices is bad and was not repaired.\n  risk Only a mount of that filesystem can repair it.\n" +
				"  type anvilfs errors list /mnt"},
		{"met by reads, and bad", Integrity{Errors: &ledger.Report{Bad: 1}}, damaged,
			"warning 1 place in a file is bad and was not repaired.\n  risk The files cannot be read there, or read as one of several versions.\n" +
				"  soon It is tried again from time to time.\n  type anvilfs errors list /mnt\n" +
				"note Reads met damage on a 3 times, and it was rewritten once: watch its disk."},
		{"met by reads, and written anew since", Integrity{Errors: &ledger.Report{}}, damaged,
			"note Reads met damage on a 3 times, and it was rewritten once: watch its disk."},
		{"met by reads, and not remembered", Integrity{Errors: &ledger.Report{Err: "no room"}}, damaged,
			"warning a has 2 damaged blocks, not rewritten yet.\n  soon Reads are answered by the other nodes, where one of them is right.\n" +
				"note What is found bad is not remembered: no room."},
		{"no ledger", Integrity{Errors: &ledger.Report{Err: "no room"}}, sound, "note What is found bad is not remembered: no room."},
		{"not to the end", Integrity{Scrub: &scrub.Report{Phase: scrub.Done, Lanes: []scrub.LaneReport{{Node: "a", Err: "its root is bad"}, {Node: "gone", Err: "not in sync"}}}}, synced,
			"warning The last scrub did not verify a to the end: its root is bad.\n  risk Damage that nobody reads is not found.\n  type anvilfs scrub start /mnt"},
		{"not at all", Integrity{Scrub: &scrub.Report{Phase: scrub.Done, Absent: []scrub.Absence{{Node: "a", State: cluster.NodeOffline}, {Node: "b", State: cluster.NodeMissing}}}}, synced,
			"note The last scrub did not verify a: it was offline.\n  risk Damage that nobody reads is not found.\n  type anvilfs scrub start /mnt"},
		{"failed", Integrity{Scrub: &scrub.Report{Phase: scrub.Failed, Err: "gone"}}, sound,
			"warning The scrub failed: gone.\n  risk Damage that nobody reads is not found.\n  type anvilfs scrub start /mnt"},
	} {
		if got := show(For(c.st, &c.i, "/mnt", bytesOf)); got != c.want {
			t.Errorf("%s:\n%s", c.name, got)
		}
	}
	list := Join([]Advice{{Level: Note}}, []Advice{{Level: Critical}, {Level: Warning}})
	if len(list) != 3 || list[0].Level != Critical || list[2].Level != Note {
		t.Errorf("joined: %+v", list)
	}
}

// Symptom: a directory whose name had an escape sequence in it changed what stood in
// root's terminal when status listed it.
func TestLines(t *testing.T) {
	var b strings.Builder
	if n, err := Lines(&b).Write([]byte("a\tcaf\xe9\n\x1b[Hé\n")); n != 13 || err != nil || b.String() != "a\tcaf\\xe9\n\\x1b[Hé\n" {
		t.Errorf("%q (%d, %v)", b.String(), n, err)
	}
}

func TestPrintable(t *testing.T) {
	for _, c := range [][2]string{
		{"/a b é", "/a b é"}, {"new\nline\t", `new\nline\t`}, {"\x1b[31m", `\x1b[31m`}, {"\xff\xfe", `\xff\xfe`}, {"\u202e", `\xe2\x80\xae`}, {"\u009b", `\xc2\x9b`}, {"\ufffd", "\ufffd"},
	} {
		if got := Printable(c[0]); got != c[1] {
			t.Errorf("%q: %s, want %s", c[0], got, c[1])
		}
	}
}

// Symptom: an advice for a mount point, or a node, with a dollar sign in its name was
// something else when it was typed: double quotes let the shell expand it.
func TestQuote(t *testing.T) {
	for _, c := range [][2]string{{"/mnt", "/mnt"}, {"", "''"}, {"/my mnt", "'/my mnt'"}, {"a$HOME", "'a$HOME'"}, {"it's `id`", `'it'\''s ` + "`id`'"}, {`a\b`, `'a\b'`}, {"a\nb", `"$(printf 'a\012b')"`},
		{"a'\\%\x1b[31m\xff b", `"$(printf 'a\047\134%%\033[31m\377 b')"`}, {"b\n", "'b\n'"}, {"é", "é"}} {
		if got := Quote(c[0]); got != c[1] {
			t.Errorf("%q: %s, want %s", c[0], got, c[1])
		}
		if out, err := exec.Command("sh", "-c", "printf %s "+Quote(c[0])).Output(); err != nil || string(out) != c[0] {
			t.Errorf("a shell reads %q as %q (%v)", c[0], out, err)
		}
	}
}

// Symptom: what a node, or an error, said was to be typed lacked the name of the
// program and the mount point, and was an error when it was typed.
func TestTyped(t *testing.T) {
	for _, c := range []struct{ text, dir, node, want string }{
		{"anvilfs node online MNT NODE", "/mnt", "b.img", "anvilfs node online /mnt b.img"},
		{"anvilfs node online MNT NODE merges it, anvilfs node discard MNT NODE gives it up", "/my mnt", "$b",
			"anvilfs node online '/my mnt' '$b' merges it, anvilfs node discard '/my mnt' '$b' gives it up"},
		{"mount with it, or anvilfs node replace MNT NODE DEVICE", "/mnt", "b", "mount with it, or anvilfs node replace /mnt b DEVICE"},
		{"anvilfs node remove MNT NODE", "/mnt", "", "anvilfs node remove /mnt NODE"},
		{"anvilfs scrub start --wait MNT", "/mnt", "b", "anvilfs scrub start --wait /mnt"},
		{"MNT NODE: anvilfs scrub start MNT", "", "b", "MNT NODE: anvilfs scrub start MNT"},
		{"MNT is not MNTS: anvilfs sync MNTS", "/mnt", "b", "MNT is not MNTS: anvilfs sync MNTS"},
	} {
		if got := Typed(c.text, c.dir, c.node); got != c.want {
			t.Errorf("%q: %s, want %s", c.text, got, c.want)
		}
	}
}
