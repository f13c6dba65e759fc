package ledger

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// A recorder is a filesystem of one file that notes what reaches it, in order.
// Only what was written before a flush began is sure to be on media after it:
// bbolt has to ask for each order that it relies on.
type recorder struct {
	fs.Inode
	mu     sync.Mutex
	data   []byte
	events []event
}

// An event is a write, a change of the size, or a flush, which has neither.
type event struct {
	off  int64
	data []byte
	size int64 // of the file from then on, if it is changed by itself
	kind eventKind
}

type eventKind int

const (
	flushed eventKind = iota
	written
	resized
)

type recordRoot struct {
	fs.Inode
	file *recorder
}

var (
	_ fs.NodeCreater   = (*recordRoot)(nil)
	_ fs.NodeOpener    = (*recorder)(nil)
	_ fs.NodeReader    = (*recorder)(nil)
	_ fs.NodeWriter    = (*recorder)(nil)
	_ fs.NodeFsyncer   = (*recorder)(nil)
	_ fs.NodeGetattrer = (*recorder)(nil)
	_ fs.NodeSetattrer = (*recorder)(nil)
)

func (r *recordRoot) Create(ctx context.Context, name string, _, _ uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	in := r.NewPersistentInode(ctx, r.file, fs.StableAttr{Mode: fuse.S_IFREG})
	r.AddChild(name, in, true)
	out.Mode = fuse.S_IFREG | 0o600
	return in, nil, 0, 0
}

func (r *recorder) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

func (r *recorder) Read(_ context.Context, _ fs.FileHandle, p []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if off >= int64(len(r.data)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(p[:copy(p, r.data[off:])]), 0
}

func (r *recorder) Write(_ context.Context, _ fs.FileHandle, p []byte, off int64) (uint32, syscall.Errno) {
	r.add(event{off: off, data: slices.Clone(p), kind: written})
	return uint32(len(p)), 0
}

func (r *recorder) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	r.add(event{kind: flushed})
	return 0
}

func (r *recorder) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	r.mu.Lock()
	defer r.mu.Unlock()
	out.Mode, out.Size = fuse.S_IFREG|0o600, uint64(len(r.data))
	return 0
}

func (r *recorder) Setattr(ctx context.Context, h fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		r.add(event{size: int64(size), kind: resized})
	}
	return r.Getattr(ctx, h, out)
}

func (r *recorder) add(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	r.data = e.apply(r.data, func() bool { return true })
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events)
}

// apply returns the file after an event, of which those sectors are there that
// keep picks.
func (e *event) apply(img []byte, keep func() bool) []byte {
	switch e.kind {
	case resized:
		if keep() {
			img = longer(img, int(e.size))[:e.size]
		}
	case written:
		for at := 0; at < len(e.data); at += bytesTogether {
			if part := e.data[at:min(len(e.data), at+bytesTogether)]; keep() {
				beg := int(e.off) + at
				img = longer(img, beg+len(part))
				copy(img[beg:], part)
			}
		}
	}
	return img
}

// longer returns a file of n bytes at least.
func longer(img []byte, n int) []byte {
	if n > len(img) {
		img = append(img, make([]byte, n-len(img))...)
	}
	return img
}

// cut is what a power cut after n events may leave.
func (r *recorder) cut(n int, rnd *rand.Rand) (img []byte) {
	last := 0 // events before the last flush
	for i, e := range r.events[:n] {
		if e.kind == flushed {
			last = i
		}
	}
	for i := range r.events[:n] {
		keep := func() bool { return i < last || rnd.IntN(2) == 0 }
		if rnd.IntN(2) == 0 { // all or nothing of it
			whole := keep()
			keep = func() bool { return whole }
		}
		img = r.events[i].apply(img, keep)
	}
	return img
}

// childPath names the file of the process that changes a ledger, which is not
// this one: its maps are of a filesystem that this process serves.
const childPath = "ANVILFS_LEDGER_OF_CHILD"

// TestLedgerChild is that process. It says what the ledger holds after each change,
// and waits for leave to go on.
func TestLedgerChild(t *testing.T) {
	path := os.Getenv(childPath)
	if path == "" {
		t.Skip("the other process of TestLedgerBarriers")
	}
	in := bufio.NewReader(os.Stdin)
	change(t, path, 40, func(state string) {
		fmt.Printf("held %s\n", state)
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	})
}

// recorded has a ledger changed on a recorder, and returns after how many events it
// was known to hold what.
func recorded(t *testing.T) (r *recorder, acked []int, states []string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip(err)
	}
	r = &recorder{}
	dir := t.TempDir()
	srv, err := fs.Mount(dir, &recordRoot{file: r}, &fs.Options{MountOptions: fuse.MountOptions{DirectMount: true, FsName: "ledger"}})
	must(t, err)
	defer func() { must(t, srv.Unmount()) }()
	child := exec.Command(os.Args[0], "-test.run=^TestLedgerChild$", "-test.v")
	child.Env = append(os.Environ(), childPath+"="+filepath.Join(dir, "x.db"))
	goOn, err := child.StdinPipe()
	must(t, err)
	says, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	lines, rest := bufio.NewScanner(says), ""
	for lines.Scan() {
		state, ok := strings.CutPrefix(lines.Text(), "held ")
		if !ok {
			rest += lines.Text() + "\n"
			continue
		}
		acked, states = append(acked, r.count()), append(states, state)
		_, err := io.WriteString(goOn, "\n")
		must(t, err)
	}
	if err := child.Wait(); err != nil {
		t.Fatalf("%v: %s", err, rest)
	}
	return r, acked, states
}

// Nothing but a flush orders what is written: whatever a cut leaves of what no
// flush had covered, the ledger is as before a change or as after it.
func TestLedgerBarriers(t *testing.T) {
	r, acked, states := recorded(t)
	kinds := map[eventKind]int{}
	for _, e := range r.events {
		kinds[e.kind]++
	}
	if t.Log(kinds); len(states) != 41 || kinds[flushed] < 2*40 || kinds[resized] == 0 {
		t.Fatalf("%d states, events by kind: %v", len(states), kinds)
	}
	dir, rnd := memoryDir(t), rand.New(rand.NewPCG(9, 10))
	wrong := func(n int) string {
		held, log := reopened(t, dir, r.cut(n, rnd))
		now := 0 // states that were acknowledged
		for now < len(acked) && acked[now] <= n {
			now++
		}
		// While it is being made there is nothing to lose.
		if now > 0 && (log != "" || held != states[now-1] && (now == len(states) || held != states[now])) {
			return fmt.Sprintf("cut after %d of %d events: %s, not %s; %s", n, len(r.events), held, states[now-1], log)
		}
		return ""
	}
	cuts := 0
	for n := range r.events {
		if r.events[n].kind == written {
			cuts++
			if what := wrong(n + 1); what != "" {
				t.Fatal(what)
			}
		}
	}
	if cuts < 100 {
		t.Errorf("%d cuts are too few to say anything", cuts)
	}
	// Without what is flushed before a head is written that is not so.
	pairs, seen := 0, 0
	for n := range r.events {
		if e := &r.events[n]; e.kind == flushed {
			if pairs++; pairs%2 == 0 && n+2 < len(r.events) {
				e.kind, e.size = resized, sizeAt(r.events[:n])
			}
		}
	}
	for n := len(r.events) / 2; n < len(r.events) && seen == 0; n++ {
		if wrong(n) != "" {
			seen++
		}
	}
	if seen == 0 {
		t.Error("that flushes are missing is not seen")
	}
}

// sizeAt is the size of the file after some events.
func sizeAt(events []event) (size int64) {
	for i := range events {
		switch e := &events[i]; e.kind {
		case resized:
			size = e.size
		case written:
			size = max(size, e.off+int64(len(e.data)))
		}
	}
	return size
}

// memoryDir is a directory in memory, if there is one: what a disk takes to flush
// is of no interest there.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "ledger")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}
