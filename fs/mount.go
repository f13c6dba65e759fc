package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// MountOptions say how to mount; zero values are defaults.
type MountOptions struct {
	FsName      string // the source shown in /proc/mounts
	Subtype     string // behind "fuse."; "" = "anvilfs"
	ReadOnly    bool
	AllowOther  bool    // users other than the mounting one may look
	BlockDevice string  // mount as fuseblk on this device: sync(2) and umount(2) then reach us
	Flags       uintptr // MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME...: what the user asked for
	Debug       bool    // log every request
	Logger      *slog.Logger
	Control     Control   // nil: no control directory
	Snapshots   Snapshots // nil: none are shown
	Options     Options
	Meter       *Meter // counts requests; nil: nobody looks
	// Closing is called once after the last request, when the filesystem has
	// stored all it has; on a block device umount(2) waits for it.
	Closing func() error
	// Stopping is called before the filesystem is closed, to end what others do
	// with it beside the kernel.
	Stopping func()
}

// A Server is a mounted filesystem.
type Server struct {
	FS         *FS
	mountpoint string
	conn       *conn
	opts       MountOptions
	done       chan struct{}
	sweeper    sweeper
	recount    recounter
	rolling    sync.Mutex // held by a rollback

	once sync.Once
	err  error // of closing; valid when done is closed
}

// Mount serves store at mountpoint and returns when its root answers.
func Mount(ctx context.Context, store Store, mountpoint string, o MountOptions) (*Server, error) {
	if o.Subtype == "" {
		o.Subtype = "anvilfs"
	}
	if o.FsName == "" {
		o.FsName = o.Subtype
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Options.Logger == nil {
		o.Options.Logger = o.Logger
	}
	if o.Flags&syscall.MS_NOATIME != 0 {
		o.Options.NoAtime = true
	}
	mountpoint, err := filepath.Abs(mountpoint)
	if err != nil {
		return nil, err
	}
	f, err := New(ctx, store, o.ReadOnly, o.Options)
	if err != nil {
		return nil, fmt.Errorf("preparing the filesystem: %w", err)
	}
	fd, err := attach(mountpoint, &o)
	if err != nil {
		_ = f.Close(ctx) // nothing was pending
		return nil, fmt.Errorf("mount %s on %s: %w", o.FsName, mountpoint, err)
	}
	s := &Server{FS: f, mountpoint: mountpoint, opts: o, done: make(chan struct{})}
	s.conn = newConn(fd, f, &o, s.close)
	s.conn.raw.ctl.ran = s.SweepSnapshots
	s.sweeper.start(s.conn)
	s.recount.start(store, s.conn.invalidateAttr)
	s.conn.raw.recount = &s.recount
	go s.run()
	if err := s.answer(); err != nil {
		_ = s.Unmount()
		return nil, fmt.Errorf("mount %s on %s: %w", o.FsName, mountpoint, err)
	}
	if os.Geteuid() == 0 {
		setReadAhead(mountpoint)
	}
	return s, nil
}

func newConn(fd int, f *FS, o *MountOptions, destroy func()) *conn {
	c := &conn{fd: fd, log: o.Logger, meter: o.Meter, debug: o.Debug, destroy: destroy}
	if c.meter == nil {
		c.meter = new(Meter)
	}
	snaps := newSnapshots(o.Snapshots, o.Logger, o.Options.Nodes/4)
	if o.Control == nil {
		snaps.source = nil // there is no directory to show them in
	}
	c.raw = &raw{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		fs:            f,
		ctl:           newControl(o.Control),
		log:           o.Logger,
		readOnly:      o.ReadOnly,
		invalidate:    c.invalidateAttr,

		invalidateName: c.invalidateEntry,
		later:          c.wg.Go,
	}
	f.modeFell = c.invalidateAttr
	c.raw.ctl.snaps = snaps
	c.proto = fuse.NewProtocolServer(c.raw.serving(o.Flags), &fuse.MountOptions{
		MaxWrite:             maxRequest,
		MaxBackground:        64,
		EnableAcl:            true,
		EnableSymlinkCaching: true,
		IDMappedMount:        true,
		DisableSplice:        true,
		Debug:                o.Debug,
		Logger:               slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
		PanicHandler:         func(what any) fuse.Status { return panicked(o.Logger, what) },
		// Data is invalidated when we say so, not when a time changes.
		// Nobody's file is passed through, and others may stack upon us.
		DisabledCapabilities: fuse.CAP_AUTO_INVAL_DATA | fuse.CAP_PASSTHROUGH,
		ExtraCapabilities: fuse.CAP_EXPORT_SUPPORT | fuse.CAP_DONT_MASK | fuse.CAP_READDIRPLUS_AUTO |
			fuse.CAP_ASYNC_DIO | fuse.CAP_NO_OPENDIR_SUPPORT | fuse.CAP_HANDLE_KILLPRIV_V2 |
			fuse.CAP_SETXATTR_EXT | fuse.CAP_IOCTL_DIR,
	})
	return c
}

// run serves until the mount is gone, then closes.
func (s *Server) run() {
	s.conn.serve()
	s.sweeper.stop() // they write to the descriptor
	s.recount.stop()
	s.close()
	_ = syscall.Close(s.conn.fd) // the mount is gone; nothing can be lost here
	close(s.done)
}

// close stores what is pending and lets the owner close what is below.
func (s *Server) close() {
	s.once.Do(func() {
		if s.opts.Stopping != nil {
			s.opts.Stopping()
		}
		s.conn.raw.ctl.snaps.close()
		s.rolling.Lock()
		defer s.rolling.Unlock()
		s.err = s.FS.Close(context.Background())
		if s.opts.Closing != nil {
			if err := s.opts.Closing(); s.err == nil {
				s.err = err
			}
		}
	})
}

// pollFile is a name that go-fuse answers for in every root.
const pollFile = ".go-fuse-epoll-hack"

// answer asks the root once, as the first user will.
func (s *Server) answer() error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.mountpoint, &st); err != nil {
		return err
	}
	if _, err := os.Stat(s.mountpoint); err != nil {
		return err
	}
	if s.opts.Control != nil {
		// Known to the kernel, the directory is found without the root's lock,
		// which a call that waits for a quorum may hold.
		if _, err := os.Stat(filepath.Join(s.mountpoint, controlDir)); err != nil {
			return err
		}
	}
	// The kernel shall learn now that POLL is not known here. A Go program
	// that opens files of its own mount asks for it on a thread that cannot
	// be replaced, so that there might be none left to answer.
	fd, err := syscall.Open(filepath.Join(s.mountpoint, pollFile), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return errors.Join(err, syscall.Close(fd))
}

// Wait returns when the filesystem has been unmounted and closed.
func (s *Server) Wait() error {
	<-s.done
	return s.err
}

// Unmount detaches the filesystem and waits until it is closed. EBUSY: it is
// in use and stays.
func (s *Server) Unmount() error {
	if err := detach(s.mountpoint); err != nil {
		return fmt.Errorf("umount %s: %w", s.mountpoint, err)
	}
	return s.Wait()
}

// Mountpoint is the directory, absolute.
func (s *Server) Mountpoint() string { return s.mountpoint }

// InvalidateInode makes the kernel forget attributes and content of an inode
// that did not change through it.
func (s *Server) InvalidateInode(inum uint64) { s.conn.invalidateData(inum) }

// InvalidateEntry makes the kernel forget a name in a directory.
func (s *Server) InvalidateEntry(dir uint64, name string) { s.conn.invalidateEntry(dir, name) }

// options are the words of mount(2)'s data.
func options(o *MountOptions) []string {
	list := []string{"default_permissions", fmt.Sprintf("max_read=%d", maxRequest)}
	if o.AllowOther {
		list = append(list, "allow_other")
	}
	return list
}

// escape protects an option's value from being split at commas.
func escape(value string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(value)
}
