package cluster

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Symptom: a sync that came while a commit waited to be tried again ended that
// wait, and its own changes were then left until the timer closed their group.
func TestWishOutlivesATryAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, e := openFake(t, Options{Commit: time.Hour, OnNoQuorum: EIO}, formatted(t, 256<<20))
		defer closePool(t, p)
		f := makeFile(t, p, 1, "a", ondisk.ObjFile)
		e.set(func() { e.fail = ErrNoQuorum })
		if err := p.Sync(bg); !errors.Is(err, ErrNoQuorum) {
			t.Fatalf("sync: %v", err)
		}
		synctest.Wait() // the commit is to be tried again in a while
		e.mu.Lock()     // without a word: a change of members would end the pause, too
		e.fail = nil
		e.mu.Unlock()
		write(t, p, f, 0, []byte("later"))
		began := time.Now()
		mustSync(t, p)
		if took := time.Since(began); took > time.Minute {
			t.Errorf("the sync took %v", took)
		}
	})
}
