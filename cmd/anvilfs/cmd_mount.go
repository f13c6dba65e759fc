package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// mountWords are what the mount command was given.
type mountWords struct {
	options    []string
	foreground bool
	fake       bool
	serve      bool // this is the process that stays
}

func mountCommand() *cobra.Command {
	var w mountWords
	c := &cobra.Command{
		Use:   "mount DEVICE[,DEVICE...]@LABEL DIRECTORY [-o OPTIONS]",
		Short: "Mount a filesystem and serve it",
		Long: `Mount opens the devices, waits for a majority of the masters, and returns when
the root of the filesystem answers. A background process serves the mount until
it is unmounted. The same as: mount -t fuse.anvilfs DEVICE,DEVICE@LABEL DIRECTORY

Options, separated by commas:
  ro, rw            ro changes nothing on any device
  commit=SECONDS    longest time a change stays in memory only (5)
  memory=SIZE       bound of caches and changes not yet written (256m)
  quorum=hang|eio   without a majority: wait for nodes to return, or fail (hang)
  deadline=SECONDS  a device that does not answer so long counts as failed (30)
  allow_other       let other users look (always on for root)
  noatime, relatime, nosuid, nodev, noexec, sync, dirsync: as for any filesystem
  log=FILE          write the log there instead of to the system log
  remount           with ro or rw: change a mount in use
nofail, _netdev, x-... and the like are accepted and mean nothing here.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usageError("mount takes DEVICE[,DEVICE...]@LABEL and a directory: see anvilfs mount --help")
			}
			return mount(c, args[0], args[1], &w)
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&w.options, "options", "o", nil, "mount options, separated by commas")
	f.BoolVarP(&w.foreground, "foreground", "f", false, "stay in front and log to standard error")
	f.BoolVar(&w.fake, "fake", false, "do everything but mount")
	f.BoolVar(&w.serve, "serve", false, "be the serving process")
	_ = f.MarkHidden("fake")  // exists, so this cannot fail
	_ = f.MarkHidden("serve") // likewise
	return c
}

func mount(c *cobra.Command, src, dir string, w *mountWords) error {
	o, err := parseOptions(w.options...)
	if err != nil {
		return err
	}
	if o.remount {
		return remount(dir, &o)
	}
	s, err := parseSource(src)
	if err != nil {
		return err
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return exitWith(exitMount, "%s is not a directory to mount on: create it first", dir)
	}
	if os.Geteuid() == 0 {
		o.allowOther = true
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	switch {
	case w.fake:
		return nil
	case w.serve || w.foreground:
		return serve(c.Context(), s, dir, &o, newReadiness(w.serve), w.foreground)
	}
	return background(c, s, dir, w)
}

// background starts the serving process and waits for its word.
func background(c *cobra.Command, s source, dir string, w *mountWords) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, ready, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	words := []string{"mount", s.text, dir, "--serve"}
	for _, o := range w.options {
		words = append(words, "-o", o)
	}
	child := exec.Command(self, words...)
	child.ExtraFiles = []*os.File{ready} // becomes readyFD
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		_ = ready.Close()
		return err
	}
	_ = ready.Close() // the child has its own
	said, err := waitReady(r)
	if err != nil {
		return err
	}
	for _, line := range said.notes {
		fmt.Fprintln(c.ErrOrStderr(), "anvilfs:", line)
	}
	switch {
	case said.ok:
		return child.Process.Release()
	case said.reason != "":
		_, _ = child.Process.Wait()
		return exitWith(exitMount, "%s", said.reason)
	}
	state, err := child.Process.Wait()
	if err != nil {
		return err
	}
	return exitWith(exitMount, "the serving process ended before the mount was ready: %s", state)
}

// remount changes a mount in use: the kernel tells a FUSE server nothing of
// a remount, so both have to be told.
func remount(dir string, o *mountOptions) error {
	flags := o.flags | syscall.MS_REMOUNT
	mode := "rw"
	if o.readOnly {
		flags |= syscall.MS_RDONLY
		mode = "ro"
	}
	if !o.readOnly {
		if _, err := tell(dir, "remount", mode); err != nil {
			return exitWith(exitMount, "%w", err)
		}
	}
	if err := syscall.Mount("", dir, "", flags, ""); err != nil {
		return exitWith(exitMount, "remount %s %s: %w", mode, dir, err)
	}
	if o.readOnly {
		if _, err := tell(dir, "remount", mode); err != nil {
			return exitWith(exitMount, "%w", err)
		}
	}
	return nil
}

// bindContext ends a context when the mount is told to stop by a signal.
func unmountOn(ctx context.Context, unmount func() error, warn func(error)) func() {
	done := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
			if err := unmount(); err != nil {
				warn(err)
			}
		case <-done:
		}
	}()
	return func() { close(done) }
}

// display is the source as /proc/mounts shows it.
func (s source) display() string { return strings.TrimSpace(s.text) }
