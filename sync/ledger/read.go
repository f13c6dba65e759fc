package ledger

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
)

// Read lists what a file says that no mount has open, as List does, and leaves it
// as it is. Where there is no file, nothing is bad that anybody knows of. It returns
// in openWait, whatever the disk does.
func Read(path string, all bool) (list []Entry, err error) {
	l, err := inTime(func() (*Ledger, error) { return openToRead(path) })
	if err == nil && l != nil {
		list, err = l.List(all)
		err = errors.Join(err, l.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("ledger %s: %w", path, err)
	}
	return list, nil
}

// openToRead returns nil if nothing was ever written.
func openToRead(path string) (*Ledger, error) {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && st.Mode().IsRegular() && st.Size() == 0 {
		return nil, nil
	}
	if err == nil {
		err = inspect(path)
	}
	if err != nil {
		return nil, err
	}
	l := &Ledger{now: time.Now, named: true} // and so it stays, whatever is in it
	err = l.guard(func() error {
		l.db, err = bbolt.Open(path, 0, &bbolt.Options{Timeout: lockWait, ReadOnly: true})
		return err
	})
	if err != nil {
		return nil, busy(err)
	}
	return l, nil
}
