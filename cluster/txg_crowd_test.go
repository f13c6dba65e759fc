package cluster

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

const crowdCommit = 10 * time.Millisecond // of the engine in these tests

// openCrowd makes n files in a pool whose commits take crowdCommit.
func openCrowd(t *testing.T, n int) (p *Pool, e *fakeEngine, files []uint64) {
	t.Helper()
	p, e = openFake(t, Options{Commit: time.Hour}, formatted(t, 256<<20))
	for i := range n {
		files = append(files, makeFile(t, p, 1, string(rune('a'+i)), ondisk.ObjFile))
	}
	mustSync(t, p)
	e.set(func() { e.slow = crowdCommit })
	return p, e, files
}

// append1 writes to a file and syncs, as a database does, rounds times.
func append1(t *testing.T, p *Pool, f uint64, rounds int) {
	for i := range rounds {
		write(t, p, f, uint64(i), []byte{byte(i)})
		if err := p.Sync(bg); err != nil {
			t.Error(err)
		}
	}
}

// Symptom: of eight who wrote and synced side by side, one was alone in each
// second commit, since it came back first, and the others waited for that.
func TestSyncersShareCommits(t *testing.T) {
	const writers, rounds = 8, 20
	synctest.Test(t, func(t *testing.T) {
		p, e, files := openCrowd(t, writers)
		defer closePool(t, p)
		before := e.commits
		var wg sync.WaitGroup
		for _, f := range files {
			wg.Go(func() { append1(t, p, f, rounds) })
		}
		wg.Wait()
		// One may always be late by one commit: the first was for one alone.
		if n := e.commits - before; n > rounds+rounds/4 {
			t.Errorf("%d commits for %d rounds of %d writers", n, rounds, writers)
		}
	})
}

// Who is alone waits for nobody, nor does who is left over for long.
func TestLoneSyncerIsNotHeld(t *testing.T) {
	const rounds = 2 * gatherGap
	synctest.Test(t, func(t *testing.T) {
		p, _, files := openCrowd(t, 3)
		defer closePool(t, p)
		began := time.Now()
		append1(t, p, files[0], rounds)
		if took := time.Since(began); took != rounds*crowdCommit {
			t.Errorf("alone from the start: %d syncs took %v", rounds, took)
		}
		var wg sync.WaitGroup
		for _, f := range files {
			wg.Go(func() { append1(t, p, f, 4) })
		}
		wg.Wait()
		began = time.Now()
		append1(t, p, files[0], rounds)
		if took, most := time.Since(began), rounds*crowdCommit+2*maxGather; took > most {
			t.Errorf("alone when the others have gone: %d syncs took %v, more than %v", rounds, took, most)
		}
	})
}

// Two who are busy elsewhere between their syncs do not meet, however long the
// one who waits is held: that is not tried with each commit.
func TestSyncersWhoDoNotMeet(t *testing.T) {
	const rounds = gatherGap
	synctest.Test(t, func(t *testing.T) {
		p, _, files := openCrowd(t, 2)
		defer closePool(t, p)
		began := time.Now()
		var wg sync.WaitGroup
		for i, f := range files {
			wg.Go(func() {
				<-time.After(time.Duration(i) * crowdCommit / 2)
				for range rounds {
					append1(t, p, f, 1)
					<-time.After(crowdCommit / 2)
				}
			})
		}
		wg.Wait()
		// One after the other, as long as the last one's pause.
		if took, most := time.Since(began), 2*rounds*crowdCommit+crowdCommit/2+3*maxGather; took > most {
			t.Errorf("%d syncs took %v, more than %v", 2*rounds, took, most)
		}
	})
}

// A commit that others wait for than those who sync is not put off: who needs
// memory, or the trees.
func TestCrowdGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, files := openCrowd(t, 1)
		defer closePool(t, p)
		write(t, p, files[0], 0, []byte("x"))
		g := p.state.Load().open
		for _, press := range []struct {
			what string
			on   func()
			off  func()
		}{
			{"the trees are waited for", func() { g.settle.Store(true) }, func() { g.settle.Store(false) }},
			{"the group is full", func() { g.load.memory.Add(p.budget.closeAt) }, func() { g.load.memory.Add(-p.budget.closeAt) }},
		} {
			g.syncers.Store(1)
			c := crowd{size: 2, took: time.Hour}
			press.on()
			began := time.Now()
			c.gather(p, g)
			if took := time.Since(began); took > 0 {
				t.Errorf("%s: put off for %v", press.what, took)
			}
			press.off()
		}
		g.syncers.Store(0)
	})
}
