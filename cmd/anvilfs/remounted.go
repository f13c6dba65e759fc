package main

import (
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anvilfs/anvilfs/cmd/advice"
)

// readOnlyStatus says of a mount that was made for writing that it cannot be
// written now: the kernel refuses it, and nobody asks us.
type readOnlyStatus struct {
	Since time.Time `json:"since"`
	By    string    `json:"by,omitempty"` // who asked anvilfs for it; "" = not known
}

// remounts knows whether the kernel lets a mount be written. That is read where
// the kernel shows it; who is behind it, only those say who go through us.
type remounts struct {
	id  string // of the mount in mountinfo; "" = not found
	log *slog.Logger

	mu  sync.Mutex // guards what follows
	by  string     // who said that it is about to be
	now *readOnlyStatus
}

// watch begins to watch the mount at dir, until the result is called.
func (r *remounts) watch(dir string, log *slog.Logger) (stop func()) {
	if parent, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil {
		dir = filepath.Join(parent, filepath.Base(dir))
	}
	list, err := anvilMounts()
	for _, m := range slices.Backward(list) {
		if m.target == dir {
			r.id = m.id
			break
		}
	}
	r.log = log
	if err != nil {
		return func() {} // then it is seen when somebody asks
	}
	info, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return func() {}
	}
	pipe := make([]int, 2)
	if unix.Pipe2(pipe, unix.O_CLOEXEC) != nil {
		_ = info.Close()
		return func() {}
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			r.look()
			fds := []unix.PollFd{{Fd: int32(info.Fd()), Events: unix.POLLPRI}, {Fd: int32(pipe[0])}}
			if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR || fds[1].Revents != 0 {
				return
			}
		}
	})
	return func() {
		_ = unix.Close(pipe[1]) // which the watcher hears
		done.Wait()
		_ = unix.Close(pipe[0])
		_ = info.Close()
	}
}

// announced notes who is about to make the mount read-only.
func (r *remounts) announced(by string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.by = by
}

// look returns what is so now, nil if the mount can be written.
func (r *remounts) look() *readOnlyStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	list, err := anvilMounts()
	i := slices.IndexFunc(list, func(m mountEntry) bool { return m.id == r.id })
	if err != nil || i < 0 {
		return r.now
	}
	switch ro := slices.Contains(strings.Split(list[i].options, ","), "ro"); {
	case ro && r.now == nil:
		r.now = &readOnlyStatus{Since: time.Now(), By: r.by}
		r.log.Info("the mount is read-only now", "by", r.by)
	case !ro && r.now != nil:
		r.now, r.by = nil, ""
		r.log.Info("the mount can be written again")
	}
	return r.now
}

// words are "since TIME, by NAME".
func (s *readOnlyStatus) words() string {
	by := s.By
	if by == "" {
		by = "somebody who did not ask anvilfs"
	}
	return "since " + s.Since.Local().Format(time.DateTime) + ", by " + by
}

// advice is what status says of it.
func (s *readOnlyStatus) advice(dir string) []advice.Advice {
	if s == nil {
		return nil
	}
	return []advice.Advice{{
		Level: advice.Note, What: "The mount has been read-only " + s.words() + ".",
		Do: "mount -o remount,rw " + dir,
	}}
}

// caller is who runs this command, by name.
func caller() string {
	name := "uid " + strconv.Itoa(os.Geteuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if sudo := os.Getenv("SUDO_USER"); sudo != "" {
		name += " for " + sudo
	}
	return name
}
