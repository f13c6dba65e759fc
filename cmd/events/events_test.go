package events

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/sync/ledger"
	"github.com/anvilfs/anvilfs/sync/scrub"
)

// A buffer takes a log that several goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// program is a script, and the file it may write to.
func program(t *testing.T, script string) (path, out string) {
	t.Helper()
	dir := t.TempDir()
	path, out = filepath.Join(dir, "hook"), filepath.Join(dir, "out")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nOUT="+out+"\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, out
}

func content(path string) string {
	b, _ := os.ReadFile(path) // not there yet is empty
	return string(b)
}

var mount = Mount{Label: "HOME", Dir: "/mnt", Source: "a,b@HOME"}

func TestHookGetsTheEvent(t *testing.T) {
	path, out := program(t, `echo "$ANVILFS_EVENT|$ANVILFS_NODE|$ANVILFS_ERROR|$ANVILFS_LEVEL|$ANVILFS_LABEL|$ANVILFS_MOUNT|$ANVILFS_SOURCE|$ANVILFS_COUNT" >>$OUT`)
	var log buffer
	h := NewHook(path, mount, slog.New(slog.NewTextHandler(&log, nil)))
	h.Send(Event{What: "failed", Node: "b", Error: "no such device", Bad: true})
	h.Send(Event{What: Damage, Node: "a", Count: 3})
	h.Close()
	want := "failed|b|no such device|warning|HOME|/mnt|a,b@HOME|0\ndamage|a||info|HOME|/mnt|a,b@HOME|3\n"
	if got := content(out); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if log.String() != "" {
		t.Errorf("logged: %s", log.String())
	}
}

func TestHookFails(t *testing.T) {
	path, _ := program(t, `echo cannot send mail >&2; exit 3`)
	var log buffer
	h := NewHook(path, mount, slog.New(slog.NewTextHandler(&log, nil)))
	h.Send(Event{What: "failed", Node: "b"})
	h.Close()
	for _, want := range []string{"hook failed", "exit status 3", "cannot send mail", "node=b"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in %s", want, log.String())
		}
	}
}

// A program that hangs, and its children, are killed; events in plenty are
// dropped and counted, and nobody waits.
func TestHookHangs(t *testing.T) {
	path, out := program(t, `echo run >>$OUT; sleep 1000 & sleep 1000`)
	var log buffer
	const limit = 500 * time.Millisecond
	h := newHook(path, mount, slog.New(slog.NewTextHandler(&log, nil)), limit)
	began := time.Now()
	for range 10 * hookQueue {
		h.Send(Event{What: "failed"})
	}
	took := time.Since(began)
	if took > 10*time.Second {
		t.Errorf("sending took %v", took)
	}
	h.Close()
	// All but what one run after the other took from the queue meanwhile.
	want := 10*hookQueue - hookQueue - 2 - int(took/limit)
	dropped := 0
	for _, m := range regexp.MustCompile(`dropped=(\d+)`).FindAllStringSubmatch(log.String(), -1) {
		n, _ := strconv.Atoi(m[1])
		dropped += n
	}
	if dropped < want {
		t.Errorf("only %d events were dropped, not %d", dropped, want)
	}
	if runs := strings.Count(content(out), "run"); runs == 0 || runs > hookQueue+2 {
		t.Errorf("%d runs", runs)
	}
	if !strings.Contains(log.String(), "killed after 500ms") {
		t.Errorf("logged: %s", log.String())
	}
}

func TestCheckHook(t *testing.T) {
	path, out := program(t, "")
	if err := os.WriteFile(out, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := CheckHook(path); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"hook", "/nowhere/hook", out, "/"} {
		if CheckHook(bad) == nil {
			t.Errorf("%s is taken for a program", bad)
		}
	}
}

func TestCompare(t *testing.T) {
	base := func() *cluster.Status {
		return &cluster.Status{Space: cluster.SpaceStatus{Total: 1000, Avail: 500}, Nodes: []cluster.NodeStatus{{Name: "a"}, {Name: "b", Bad: 2, Repaired: 1}}}
	}
	for _, c := range []struct {
		name   string
		change func(*cluster.Status)
		want   string
	}{
		{"nothing", func(*cluster.Status) {}, ""},
		{"damage", func(s *cluster.Status) { s.Nodes[0].Bad = 1 }, "damage a 1 true;"},
		{"repair", func(s *cluster.Status) { s.Nodes[1].Repaired = 2 }, "repaired b 2 false;"},
		{"less space", func(s *cluster.Status) { s.Space.Avail = 49 }, "space low  0 true;"},
		{"failed commit", func(s *cluster.Status) { s.CommitError = "no" }, "commit failed  0 true;"},
		{"conflicts", func(s *cluster.Status) { s.Conflicts = 3 }, "conflicts  3 false;"},
		{"new node", func(s *cluster.Status) { s.Nodes = append(s.Nodes, cluster.NodeStatus{Name: "c"}) }, ""},
	} {
		now := base()
		c.change(now)
		var got strings.Builder
		for _, e := range compare(base(), now, time.Unix(1, 0)) {
			fmt.Fprintf(&got, "%s %s %d %v;", e.What, e.Node, e.Count, e.Bad)
		}
		if got.String() != c.want {
			t.Errorf("%s: %q, want %q", c.name, got.String(), c.want)
		}
		if n := len(compare(now, base(), time.Unix(1, 0))); c.want != "" && n > 1 {
			t.Errorf("%s, undone: %d events", c.name, n)
		}
	}
}

// A pool that says what the test says.
type fakePool struct {
	ch chan cluster.Event
	st cluster.Status
}

func (p *fakePool) Subscribe() <-chan cluster.Event { return p.ch }
func (p *fakePool) Status() cluster.Status          { return p.st }
func (p *fakePool) Integrity() advice.Integrity     { return advice.Integrity{} }
func (p *fakePool) Trees() []advice.Tree            { return nil }

// TestFills: a tree is told of when it comes near its limit, is full, has room.
func TestFills(t *testing.T) {
	tree := func(inum, bytes uint64) advice.Tree {
		q := fs.Quota{Inum: inum, Bytes: bytes << 20, MaxBytes: 100 << 20}
		return advice.Tree{Path: fmt.Sprint("/", inum), Percent: q.Percent(), Quota: q}
	}
	small := advice.Tree{Path: "/s", Percent: 91, Quota: fs.Quota{Inum: 7, Bytes: 91000, MaxBytes: 100000}}
	var f fills
	for i, c := range []struct {
		now  []advice.Tree
		want string
	}{
		{nil, ""},
		{[]advice.Tree{tree(1, 50), tree(2, 95)}, "quota near /2 95 false;"},
		{[]advice.Tree{tree(1, 50), tree(2, 97)}, ""},
		{[]advice.Tree{tree(1, 100), tree(2, 89)}, "quota full /1 100 true;"},
		{[]advice.Tree{tree(1, 99), tree(2, 90)}, ""}, // at a border
		{[]advice.Tree{tree(1, 95), tree(2, 87)}, "quota near /1 95 false;quota ok /2 87 false;"},
		{[]advice.Tree{tree(1, 10), tree(2, 87)}, "quota ok /1 10 false;"},
		{[]advice.Tree{small, tree(2, 120)}, "quota full /s 91 true;quota full /2 120 true;"}, // no block fits
		{[]advice.Tree{tree(2, 120)}, "quota ok /s 0 false;"},
	} {
		var got strings.Builder
		for _, e := range f.compare(c.now, time.Unix(1, 0)) {
			fmt.Fprintf(&got, "%s %s %d %v;", e.What, e.Path, e.Count, e.Bad)
		}
		if got.String() != c.want {
			t.Errorf("look %d: %q, want %q", i, got.String(), c.want)
		}
	}
}

func TestCompareIntegrity(t *testing.T) {
	ended := time.Unix(9, 0)
	scrubbed := func(phase scrub.Phase, unrepaired int64) advice.Integrity {
		return advice.Integrity{Scrub: &scrub.Report{Phase: phase, Ended: ended, Unrepaired: unrepaired, Err: "why"}}
	}
	running := advice.Integrity{Scrub: &scrub.Report{Phase: scrub.Verifying}}
	bad := func(n int64) advice.Integrity { return advice.Integrity{Errors: &ledger.Report{Bad: n}} }
	for _, c := range []struct {
		name     string
		old, now advice.Integrity
		want     string
	}{
		{"nothing", advice.Integrity{}, advice.Integrity{}, ""},
		{"began", advice.Integrity{}, running, ""},
		{"done", running, scrubbed(scrub.Done, 0), "scrub done 0 false;"},
		{"done, not repaired", running, scrubbed(scrub.Done, 3), "scrub done 3 true;"},
		{"done long ago", scrubbed(scrub.Done, 3), scrubbed(scrub.Done, 3), ""},
		{"stopped", running, scrubbed(scrub.Stopped, 0), ""},
		{"failed", running, scrubbed(scrub.Failed, 0), "scrub failed 0 true;"},
		{"bad", bad(0), bad(2), "unrepaired 2 true;"},
		{"still bad", bad(2), bad(2), ""},
		{"less bad", bad(2), bad(1), ""},
		{"repaired", bad(1), bad(0), "all repaired 0 false;"},
	} {
		var got strings.Builder
		for _, e := range compareIntegrity(&c.old, &c.now, time.Unix(1, 0)) {
			fmt.Fprintf(&got, "%s %d %v;", e.What, e.Count, e.Bad)
		}
		if got.String() != c.want {
			t.Errorf("%s: %q, want %q", c.name, got.String(), c.want)
		}
	}
}

func TestWatcher(t *testing.T) {
	path, out := program(t, `echo "$ANVILFS_EVENT $ANVILFS_NODE $ANVILFS_ERROR" >>$OUT`)
	var log buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	p := &fakePool{ch: make(chan cluster.Event, 3), st: cluster.Status{Nodes: []cluster.NodeStatus{
		{Name: "a", State: cluster.NodeInSync}, {Name: "b", State: cluster.NodeMissing, Error: "not given"},
		{Name: "c", Role: "soft-master", State: cluster.NodeMissing, Error: "not given"}}}} // it may be away
	w := Watch(p, mount, NewHook(path, mount, logger), logger)
	p.ch <- cluster.Event{Time: time.Unix(5, 0), Node: "a", What: "in-sync"}
	p.ch <- cluster.Event{Time: time.Unix(5, 0), Node: "a", What: "tainted", Error: "it lost writes"} // it is over already
	p.ch <- cluster.Event{Time: time.Unix(6, 0), What: QuorumLost}
	close(p.ch) // as the pool does at its end
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(log.String(), QuorumLost) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	w.Close(nil)
	want := "mounted  \nmissing b not given\nin-sync a \ntainted a it lost writes\nquorum lost  \nunmounted  \n"
	if got := content(out); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if !strings.Contains(log.String(), `level=WARN msg=event event="quorum lost" label=HOME mount=/mnt`) {
		t.Error(log.String())
	}
}
