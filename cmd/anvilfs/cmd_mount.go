package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
)

// mountWords are what the mount command was given.
type mountWords struct {
	options    []string
	foreground bool
	fake       bool
	sloppy     bool   // ignore unknown options
	serve      bool   // this is the process that stays
	members    string // those that were found for a source that names none
}

func mountCommand() *cobra.Command {
	var w mountWords
	c := &cobra.Command{
		Use:   "mount [DEVICE[,DEVICE...]]@LABEL DIRECTORY [-o OPTIONS]",
		Short: "Mount a filesystem and serve it",
		Long: `Mount opens the devices, waits for a majority of the masters, and returns when
the root of the filesystem answers. A background process serves the mount until
it is unmounted. The same as: mount -t fuse.anvilfs DEVICE,DEVICE@LABEL DIRECTORY

Without devices, @LABEL is looked for on all block devices of this machine, and so
is @ID, the id of a filesystem that anvilfs scan lists.

Options, separated by commas:
  ro, rw            ro changes nothing on any device
  commit=SECONDS    longest time a change stays in memory only, 0.1 to 3600 (5)
  memory=SIZE       bound of caches and changes not yet written, 32m to what the
                    machine has (256m)
  quorum=hang|eio   without a majority: wait for nodes to return, or fail (hang)
  deadline=SECONDS  a device that does not answer so long counts as failed, 1 to 3600 (30)
  wait=SECONDS      members that are not there yet are waited for, so long at most,
                    0.1 to 3600
  dedup             look for equals of blocks among those written lately
  nointentlog       an fsync waits for a whole commit, and other systems see what it stored
  nomerge           a soft master that was changed while it was away waits for node online
  allow_other       let other users look (always on for root)
  noatime, relatime, nosuid, nodev, noexec, sync, dirsync: as for any filesystem
  log=FILE          write the log there instead of to the system log
  metrics=ADDR:PORT serve them to Prometheus, to this machine only
                    unless metrics_public is given too
  scrub=TIME        verify all copies so long after the last time: 30d (1h to 3650d)
  state=FILE        remember there what was found bad (/var/lib/anvilfs/ID.db)
  hook=PROGRAM      run it for each event, which is in its environment
  remount           with ro or rw: change a mount in use
nofail, _netdev, x-... and the like are accepted and mean nothing here.

In /etc/fstab, anvilfs# stands before the source, since systemd would take
/dev/sdb,/dev/sdc,/dev/sdd@HOME for one device and wait for it in vain:
anvilfs#/dev/sdb,/dev/sdc,/dev/sdd@HOME /home fuse.anvilfs rw,nofail,wait=30 0 0`,
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
	f.BoolVar(&w.sloppy, "sloppy", false, "ignore unknown options")
	_ = f.MarkHidden("sloppy") // exists, so this cannot fail
	_ = f.MarkHidden("fake")   // exists, so this cannot fail
	f.StringVar(&w.members, "members", "", "what was found for the source")
	_ = f.MarkHidden("serve")   // likewise
	_ = f.MarkHidden("members") // likewise
	return c
}

func mount(c *cobra.Command, src, dir string, w *mountWords) error {
	o, err := parseMountOptions(w.options, w.sloppy)
	if err != nil {
		return err
	}
	if o.remount {
		return remount(c.Context(), dir, &o)
	}
	s, err := parseMounted(src, w.members)
	if err != nil {
		return err
	}
	if err := mountable(dir); err != nil && !w.serve { // before stat(2), which fails there
		return exitWith(exitMount, "%w", err)
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
	case w.serve:
		return serve(c.Context(), s, dir, &o, newReadiness(true), false)
	}
	if len(s.nodes()) == 0 {
		if s, err = s.byLabel(c.Context(), o.wait, c.ErrOrStderr()); err != nil {
			return err
		}
	} else if err := waitForMembers(c.Context(), s, o.wait, c.ErrOrStderr()); err != nil {
		return err
	}
	if w.foreground {
		return serve(c.Context(), s, dir, &o, newReadiness(false), true)
	}
	return background(c, s, dir, w)
}

// parseMounted reads what is to be mounted: MEMBER,...@LABEL, or @LABEL alone,
// for which members says what was found.
func parseMounted(src, members string) (source, error) {
	s, err := parseWanted(src)
	switch {
	case err != nil:
		return s, err
	case members != "":
		found, err := parseSource(members)
		found.text, found.found = s.text, true
		return found, err
	case len(s.nodes()) == 0 && s.label == "":
		return parseSource(src) // it says what is missing
	}
	return s, nil
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
	words := []string{"mount", "--serve"}
	for _, o := range w.options {
		words = append(words, "-o", o)
	}
	if w.sloppy {
		words = append(words, "--sloppy")
	}
	if s.found {
		words = append(words, "--members", s.full())
	}
	words = append(words, "--", s.text, dir)
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
		fmt.Fprintln(advice.Lines(c.ErrOrStderr()), "anvilfs:", line)
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

// remount changes a mount in use. The kernel alone refuses changes of a
// read-only mount and tells the server nothing; a mount that was made with ro
// has its devices open for reading, and stays so.
func remount(ctx context.Context, dir string, o *mountOptions) error {
	st, err := statusOf(ctx, dir)
	switch {
	case err != nil:
		return exitWith(exitMount, "%w", err)
	case !o.readOnly && st.Health == cluster.PoolReadOnly:
		return exitWith(exitMount, "%s: the devices were opened for reading only: unmount, and mount without ro", dir)
	}
	flags, mode := o.flags|syscall.MS_REMOUNT, "rw"
	if o.readOnly {
		flags, mode = flags|syscall.MS_RDONLY, "ro"
	}
	if o.readOnly {
		// Most of it now: afterwards no command can be written any more.
		if _, err := tell(ctx, dir, "sync"); err != nil && !errors.Is(err, syscall.EROFS) {
			return exitWith(exitMount, "%w", err)
		}
		_, _ = tell(ctx, dir, "remounting", caller()) // for the status only
	}
	err = syscall.Mount("", dir, "", flags, "")
	if errors.Is(err, syscall.EPERM) && os.Geteuid() != 0 {
		return exitWith(exitMount, "only root can remount %s: unmount it, and mount it with %s", dir, mode)
	}
	if err != nil {
		return exitWith(exitMount, "remount %s %s: %w", mode, dir, err)
	}
	if !o.readOnly {
		return nil
	}
	// What was accepted in between is on its way.
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		st, err := statusOf(ctx, dir)
		switch {
		case err != nil:
			return exitWith(exitMount, "%w", err)
		case st.Dirty.Bytes == 0 && st.Dirty.Leaves == 0 && !st.Dirty.Syncing:
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return exitWith(exitMount, "%s is read-only, but not all that was written is durable yet: %w", dir, ctx.Err())
		}
	}
}

// display is the source as /proc/mounts shows it.
func (s source) display() string { return strings.TrimSpace(s.text) }
