package ledger

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

const (
	lockWait = time.Second
	// openWait is how long a mount waits for the disk that the file is on.
	openWait = 5 * time.Second
	// asideSuffix is where a damaged file goes; the one before it is replaced.
	asideSuffix = ".damaged"
)

// ErrBusy: another process has the file.
var ErrBusy = errors.New("another mount of this filesystem has it open: unmount that, or mount with state=FILE of another name")

// Options are how to open.
type Options struct {
	Log *slog.Logger // told of a file that was put aside; nil = nobody
	// Named: a person named the file, so one that is no ledger is that person's
	// and stays where it is. Others are put aside. It also stays when it is closed
	// with nothing in it. Its directory is not made.
	Named bool
}

// Open opens the file, making it and its directory. One that is damaged is
// renamed and begun anew. All else that is wrong with it is an error that names
// it. It returns in openWait, whatever the disk does.
func Open(path string, o Options) (*Ledger, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l, err := inTime(func() (*Ledger, error) { return openNow(path, o) })
	if errors.As(err, new(*os.PathError)) {
		err = fmt.Errorf("%w: mount with state=FILE where there is room to write", err)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger %s: %w", path, err)
	}
	return l, nil
}

// inTime gives up waiting after openWait; what is opened later is closed again.
func inTime(open func() (*Ledger, error)) (l *Ledger, err error) {
	done := make(chan struct{})
	var taken atomic.Bool // by the opener, or by who gave up
	go func() {
		defer close(done)
		was, failed := open()
		if taken.CompareAndSwap(false, true) {
			l, err = was, failed
		} else if was != nil {
			was.Close() // it was not written
		}
	}()
	timer := time.NewTimer(openWait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		if taken.CompareAndSwap(false, true) {
			return nil, fmt.Errorf("its disk has not answered in %v: mount with state=FILE on another", openWait)
		}
		<-done
	}
	return l, err
}

// openNow waits for the disk.
func openNow(path string, o Options) (*Ledger, error) {
	if !o.Named { // a directory that a person names and that is not there is a slip
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
	}
	err := inspect(path)
	if errors.Is(err, errDamaged) || errors.Is(err, errForeign) && !o.Named {
		if err = putAside(path, err, o.Log); err != nil {
			return nil, err
		}
	}
	if errors.Is(err, errForeign) {
		err = fmt.Errorf("%w: move it away, or mount with another state=FILE", err)
	}
	if err != nil {
		return nil, err
	}
	l, err := openSound(path, o.Named)
	if errors.Is(err, errDamaged) {
		if err = putAside(path, err, o.Log); err == nil {
			l, err = openSound(path, o.Named)
		}
	}
	return l, err
}

// putAside makes room for a new file.
func putAside(path string, why error, log *slog.Logger) error {
	if err := os.Rename(path, path+asideSuffix); err != nil {
		return errors.Join(why, err)
	}
	log.Warn("the list of what was found bad, and how far a scrub was, is lost: what is still bad is found by the next scrub",
		"file", path, "err", why, "kept", path+asideSuffix, "next", "anvilfs scrub start MNT")
	return nil
}

// inspect says what is wrong with a file that is there, before bbolt sees it.
func inspect(path string) error {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return errForeign // a device would be written to
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // and gives the lock up: who takes it in between, bbolt waits for
	if err := lock(f); err != nil {
		return err
	}
	if st, err = f.Stat(); err != nil || st.Size() == 0 {
		return err // just made
	}
	names, err := sound(f, st.Size())
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.Contains([]string{string(bucketErrors), string(bucketJobs)}, name) {
			return fmt.Errorf("%w, but a database of something else, with %q in it", errForeign, name)
		}
	}
	return nil
}

// lock waits as long as bbolt does.
func lock(f *os.File) error {
	for end := time.Now().Add(lockWait); ; time.Sleep(lockWait / 20) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(end) {
			return ErrBusy
		}
	}
}

// openSound waits for whoever has the file. One that is taken away meanwhile, since
// nothing was in it, is made again.
func openSound(path string, named bool) (l *Ledger, err error) {
	for end := time.Now().Add(lockWait); ; {
		l, err = openLocked(path, named)
		if !errors.Is(err, errGone) || time.Now().After(end) {
			return l, err
		}
	}
}

func openLocked(path string, isNamed bool) (*Ledger, error) {
	_, err := os.Stat(path)
	fresh := errors.Is(err, os.ErrNotExist)
	l := &Ledger{now: time.Now, named: isNamed}
	err = l.guard(func() (err error) {
		l.db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, OpenFile: l.openFile})
		return err
	})
	if err == nil && !named(path, l.file) {
		return nil, errors.Join(errGone, l.db.Close())
	}
	if err != nil {
		if fresh && !errors.Is(err, bolterrors.ErrTimeout) {
			os.Remove(path) // half a file, for want of room
		}
		return nil, busy(err)
	}
	err = l.write(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketErrors, bucketJobs} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		var bad badness
		err = l.each(func(e *Entry) { l.count++; bad.add(e, 1) })
		l.changeBad(bad)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// busy says in our words that bbolt waited for the lock in vain.
func busy(err error) error {
	if errors.Is(err, bolterrors.ErrTimeout) {
		return ErrBusy
	}
	return err
}

// openFile is how bbolt opens the file, and its lock is of this opening.
func (l *Ledger) openFile(path string, flag int, mode os.FileMode) (f *os.File, err error) {
	l.file, err = os.OpenFile(path, flag, mode)
	return l.file, err
}

// guard runs what touches the mapped file. A page that cannot be read, and what
// bbolt says of one that it does not understand, is a panic: that ends the
// ledger, not the mount.
func (l *Ledger) guard(fn func() error) (err error) {
	if lost := l.lost.Load(); lost != nil {
		return *lost
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if what := recover(); what != nil {
			err = fmt.Errorf("%w: it is not used until the next mount: %v", errDamaged, what)
			l.lost.Store(&err)
		}
	}()
	return fn()
}

func (l *Ledger) write(fn func(tx *bbolt.Tx) error) error {
	return l.guard(func() error { return l.db.Update(fn) })
}

func (l *Ledger) read(fn func(tx *bbolt.Tx) error) error {
	return l.guard(func() error { return l.db.View(fn) })
}

// Close closes the file. One with nothing in it goes away, unless a person named it.
func (l *Ledger) Close() error {
	if l.lost.Load() != nil {
		return nil // bbolt's locks may be held for good
	}
	err := l.tidy()
	return errors.Join(err, l.guard(l.db.Close))
}
