package events

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	hookQueue  = 64               // events that wait for the program
	hookLimit  = 60 * time.Second // for one run of it
	hookGrace  = 2 * time.Second  // at the end of the mount, for the last run
	hookOutput = 2048             // bytes of what it said that are logged
)

// A Hook runs a program for each event, one at a time.
type Hook struct {
	path  string
	mount Mount
	log   *slog.Logger
	limit time.Duration

	queue   chan Event
	cancel  context.CancelFunc // kills the program that runs
	done    chan struct{}
	dropped int // owned by the caller of Send
}

// CheckHook says why a program cannot be a hook.
func CheckHook(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%q is not an absolute path: the server works from /", path)
	}
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%w: check the path", err)
	}
	if !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not a program: chmod +x it, and start a script with #!", path)
	}
	return nil
}

// NewHook starts the goroutine that runs the program.
func NewHook(path string, m Mount, log *slog.Logger) *Hook { return newHook(path, m, log, hookLimit) }

func newHook(path string, m Mount, log *slog.Logger, limit time.Duration) *Hook {
	ctx, cancel := context.WithCancel(context.Background())
	h := &Hook{path: path, mount: m, log: log, limit: limit, cancel: cancel,
		queue: make(chan Event, hookQueue), done: make(chan struct{})}
	go h.loop(ctx)
	return h
}

// Send hands an event to the program. It never waits; without room the event
// is dropped. Only one goroutine may call it.
func (h *Hook) Send(e Event) {
	select {
	case h.queue <- e:
		h.tellDropped()
	default:
		h.dropped++
	}
}

func (h *Hook) tellDropped() {
	if h.dropped > 0 {
		h.log.Warn("hook is too slow: events were dropped", "hook", h.path, "dropped", h.dropped)
		h.dropped = 0
	}
}

// Close lets what is queued run for a moment, then ends it. No Send may come
// after.
func (h *Hook) Close() {
	h.tellDropped()
	close(h.queue)
	select {
	case <-h.done:
	case <-time.After(hookGrace):
		h.log.Warn("hook was still running at the end of the mount", "hook", h.path)
	}
	h.cancel()
	<-h.done
}

func (h *Hook) loop(ctx context.Context) {
	defer close(h.done)
	for e := range h.queue {
		if ctx.Err() == nil {
			h.run(ctx, &e)
		}
	}
}

func (h *Hook) run(ctx context.Context, e *Event) {
	ctx, cancel := context.WithTimeout(ctx, h.limit)
	defer cancel()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, h.path)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), e.Env(&h.mount)...)
	cmd.Stdout, cmd.Stderr = &head{&said}, &head{&said}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A child that it left behind may keep the output open.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() == context.DeadlineExceeded {
		err = fmt.Errorf("killed after %v", h.limit)
	}
	if err != nil {
		h.log.Warn("hook failed", "hook", h.path, "event", e.What, "node", e.Node, "err", err,
			"said", strings.TrimSpace(said.String()))
	}
}

// A head takes the beginning of what is written and drops the rest.
type head struct{ b *bytes.Buffer }

func (t *head) Write(p []byte) (int, error) {
	t.b.Write(p[:min(len(p), max(hookOutput-t.b.Len(), 0))])
	return len(p), nil
}
