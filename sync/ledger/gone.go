package ledger

import (
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// errGone: another process took the file away while this one waited for its lock.
var errGone = errors.New("the file was taken away")

// Remove takes away the ledger of a filesystem that there is no more, whatever it
// holds. A file that is not there is well, one that is in use is ErrBusy, and one
// that is no ledger stays.
func Remove(path string) error {
	err := remove(path)
	if err != nil {
		return fmt.Errorf("ledger %s: %w", path, err)
	}
	return nil
}

func remove(path string) error {
	err := inspect(path)
	if err != nil && !errors.Is(err, errDamaged) {
		return err
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() // and gives the lock up
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrBusy
	}
	if err != nil {
		return err
	}
	return removeLocked(path, f)
}

// removeLocked takes a file away that is locked: who waits for the lock sees then
// that the file has no name any more.
func removeLocked(path string, f *os.File) error {
	if !named(path, f) {
		return nil // somebody moved it
	}
	return os.Remove(path)
}

// named reports whether an open file is the one that has that name.
func named(path string, f *os.File) bool {
	is, err := f.Stat()
	if err != nil {
		return false
	}
	has, err := os.Stat(path)
	return err == nil && os.SameFile(is, has)
}

// tidy takes away a file in which nothing is, since the next mount makes it again:
// that of a filesystem that is never mounted again would stay for ever. One that a
// person named stays.
func (l *Ledger) tidy() error {
	if l.named {
		return nil
	}
	empty := true
	err := l.read(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketErrors, bucketJobs} {
			b := tx.Bucket(name) // nil if there was no room to make it
			if b == nil {
				continue
			}
			if k, _ := b.Cursor().First(); k != nil {
				empty = false
			}
		}
		return nil
	})
	if err != nil || !empty {
		return err
	}
	return removeLocked(l.db.Path(), l.file)
}
