package ledger

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

const (
	retryFirst = time.Minute
	retryMax   = 24 * time.Hour
	// maxEntries bounds the file: a member that is bad all over is replaced,
	// not repaired block by block.
	maxEntries = 100_000
)

var (
	bucketErrors = []byte("errors")
	bucketJobs   = []byte("jobs")
)

// ErrFull: so much is bad that no more is written down.
var ErrFull = errors.New("the ledger is full: replace the member, or anvilfs errors clear MNT")

// An Entry is something that was found bad.
type Entry struct {
	cluster.Damage
	Path     string    `json:"path"`
	What     string    `json:"what"` // the last error; "" once repaired
	First    time.Time `json:"first_seen"`
	Last     time.Time `json:"last_seen"`
	Count    int64     `json:"count"`
	Tries    int       `json:"tries"` // since it was repaired last
	Other    bool      `json:"other_filesystem,omitempty"`
	Next     time.Time `json:"next_try,omitzero"`
	Repaired time.Time `json:"repaired,omitzero"` // zero = it is bad
}

// A Ledger is open until Close.
type Ledger struct {
	db    *bbolt.DB
	file  *os.File // db's, which is locked as long as it is open
	named bool     // by a person, so that it stays with nothing in it
	now   func() time.Time
	mu    sync.Mutex            // held by who writes
	count int                   // of entries; guarded by mu
	bad   atomic.Int64          // of these, not repaired; changed with mu held
	heads atomic.Int64          // of these, copies of volume headers; likewise
	other atomic.Int64          // of these, places in other filesystems; likewise
	lost  atomic.Pointer[error] // why it is not used any more
}

// A Report counts what is in a ledger: plain values.
type Report struct {
	Bad     int64  `json:"bad"`                     // places that are bad now
	Headers int64  `json:"bad_headers,omitempty"`   // of these, copies of volume headers: they are in no file
	Other   int64  `json:"bad_elsewhere,omitempty"` // of these, places in other filesystems on the same volumes
	Err     string `json:"error,omitempty"`         // why there is no ledger
}

// Report does no I/O.
func (l *Ledger) Report() Report {
	if lost := l.lost.Load(); lost != nil {
		return Report{Err: (*lost).Error()}
	}
	return Report{Bad: l.bad.Load(), Headers: l.heads.Load(), Other: l.other.Load()}
}

func key(d *cluster.Damage) []byte {
	return fmt.Appendf(nil, "%s\x00%s\x00%016x\x00%02x\x00%016x", d.Node, d.Label, d.Inum, d.Kind, d.Key)
}

// wait is how long after so many tries in a row the next one comes.
func wait(tries int) time.Duration {
	return min(retryFirst<<min(max(tries-1, 0), 20), retryMax)
}

// Found writes down that something was bad, and what came of the try to repair
// it: nil if it was repaired.
func (l *Ledger) Found(d cluster.Damage, path string, err error) error {
	return l.update(&d, true, func(e *Entry) {
		now := l.now()
		if e.Count == 0 {
			e.Damage, e.First = d, now
		}
		if path != "" {
			e.Path = path
		}
		e.Last = now
		e.Count++
		e.tried(now, err)
	})
}

// A badness counts what is bad now, in all, copies of volume headers, and places
// in other filesystems.
type badness struct{ all, heads, other int64 }

// add counts an entry n times.
func (b *badness) add(e *Entry, n int64) {
	if e.Count == 0 || !e.Repaired.IsZero() {
		return
	}
	b.all += n
	if e.Header() {
		b.heads += n
	}
	if e.Other {
		b.other += n
	}
}

func (l *Ledger) changeBad(by badness) {
	l.bad.Add(by.all)
	l.heads.Add(by.heads)
	l.other.Add(by.other)
}

// tried notes the result of a try to repair e.
func (e *Entry) tried(now time.Time, err error) {
	e.Other = errors.Is(err, cluster.ErrElsewhere)
	if err == nil {
		e.What, e.Tries, e.Next, e.Repaired = "", 0, time.Time{}, now
		return
	}
	e.What, e.Repaired = reason(err), time.Time{}
	e.Tries++
	e.Next = now.Add(wait(e.Tries))
}

// reason is what lists say of an error. What is wrong with each copy of the same
// block is in the log, or in the report of the scrub: in a list it would be a paragraph
// for each place of a file.
func reason(err error) string {
	if errors.Is(err, cluster.ErrNoGoodCopy) {
		return fmt.Sprintf("%v: %v", cluster.ErrNotRepaired, cluster.ErrNoGoodCopy)
	}
	return err.Error()
}

// update edits the entry of d, a new one only if create.
func (l *Ledger) update(d *cluster.Damage, create bool, edit func(*Entry)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	change, added := badness{}, 0
	err := l.write(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketErrors)
		var e Entry
		if old := b.Get(key(d)); old != nil {
			if err := rawjson.Unmarshal(old, &e); err != nil {
				return err
			}
		} else if !create {
			return nil
		} else if l.count >= maxEntries {
			return ErrFull
		} else {
			added = 1
		}
		change.add(&e, -1)
		edit(&e)
		change.add(&e, 1)
		text, err := rawjson.Marshal(&e)
		if err != nil {
			return err
		}
		return b.Put(key(d), text)
	})
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	l.count += added
	l.changeBad(change)
	return nil
}

// List returns what is bad, with all also what was repaired, in the order of
// nodes and inodes.
func (l *Ledger) List(all bool) (list []Entry, err error) {
	err = l.each(func(e *Entry) {
		if all || e.Repaired.IsZero() {
			list = append(list, *e)
		}
	})
	return list, err
}

func (l *Ledger) each(fn func(*Entry)) error {
	err := l.read(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketErrors)
		if b == nil {
			return nil // made, and never written
		}
		return b.ForEach(func(key, text []byte) error {
			var e Entry
			if err := rawjson.Unmarshal(text, &e); err != nil {
				return fmt.Errorf("%w: entry %q: %w", errDamaged, key, err)
			}
			fn(&e)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// Retry makes everything that is bad due now, and returns how much that is.
func (l *Ledger) Retry() (n int, err error) { return l.retry(func(*Entry) bool { return true }) }

// RetryNode is Retry of what is bad on one node: it was copied, so that most of
// it is right now.
func (l *Ledger) RetryNode(node string) (n int, err error) {
	return l.retry(func(e *Entry) bool { return e.Node == node })
}

func (l *Ledger) retry(which func(*Entry) bool) (n int, err error) {
	list, err := l.List(false)
	if err != nil {
		return 0, err
	}
	for i := range list {
		if !which(&list[i]) {
			continue
		}
		if err := l.update(&list[i].Damage, false, func(e *Entry) { e.Next = l.now() }); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Clear forgets what was repaired, with all everything; it returns how much
// that was.
func (l *Ledger) Clear(all bool) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var gone badness
	err = l.write(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketErrors)
		c := b.Cursor()
		for k, text := c.First(); k != nil; k, text = c.Next() {
			var e Entry
			if err := rawjson.Unmarshal(text, &e); err != nil {
				return err
			}
			if !all && e.Repaired.IsZero() {
				continue
			}
			if err := c.Delete(); err != nil {
				return err
			}
			n++
			gone.add(&e, -1)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("ledger: %w", err)
	}
	l.count -= n
	l.changeBad(gone)
	return n, nil
}

// Compared notes that a scrub which began then found no copies that differ but
// those it reported: what differed before is equal now.
func (l *Ledger) Compared(began time.Time) error {
	list, err := l.List(false)
	if err != nil {
		return err
	}
	for i := range list {
		if !list[i].Differs || !list[i].Last.Before(began) {
			continue
		}
		if err := l.update(&list[i].Damage, false, func(e *Entry) { e.tried(l.now(), nil) }); err != nil {
			return err
		}
	}
	return nil
}

// due returns what is to be tried again now, and when the next look is worth it.
func (l *Ledger) due() (list []Entry, next time.Time, err error) {
	now := l.now()
	err = l.each(func(e *Entry) {
		switch {
		case !e.Repaired.IsZero():
		case !e.Next.After(now):
			list = append(list, *e)
		case next.IsZero() || e.Next.Before(next):
			next = e.Next
		}
	})
	return list, next, err
}

// SaveJob keeps the state of a long job under its name.
func (l *Ledger) SaveJob(name string, state any) error {
	text, err := rawjson.Marshal(state)
	if err == nil {
		err = l.write(func(tx *bbolt.Tx) error { return tx.Bucket(bucketJobs).Put([]byte(name), text) })
	}
	if err != nil {
		return fmt.Errorf("ledger: job %s: %w", name, err)
	}
	return nil
}

// LoadJob reads it back; ok is false if there is none.
func (l *Ledger) LoadJob(name string, state any) (ok bool, err error) {
	err = l.read(func(tx *bbolt.Tx) error {
		text := tx.Bucket(bucketJobs).Get([]byte(name))
		if text == nil {
			return nil
		}
		ok = true
		return rawjson.Unmarshal(text, state)
	})
	if err != nil {
		return false, fmt.Errorf("ledger: job %s: %w", name, err)
	}
	return ok, nil
}
