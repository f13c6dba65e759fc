package cluster

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

func at(text string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", text)
	if err != nil {
		panic(err)
	}
	return t
}

// auto is a table of automatic snapshots made at these times, named by them.
func auto(p SnapshotPolicy, times ...string) *SnapshotTable {
	t := &SnapshotTable{Policy: p}
	for _, text := range times {
		t.Entries = append(t.Entries, SnapshotEntry{Name: text, Clid: ondisk.NewUUID(), Created: at(text), Auto: true})
	}
	return t
}

func TestSnapshotPolicyDue(t *testing.T) {
	for _, c := range []struct {
		p    SnapshotPolicy
		last string
		now  string
		want bool
	}{
		{SnapshotPolicy{}, "2026-01-01 00:00", "2026-11-28 12:00", false},
		{SnapshotPolicy{Hourly: 1}, "2026-11-28 11:59", "2026-11-28 12:00", true},
		{SnapshotPolicy{Hourly: 1}, "2026-11-28 12:00", "2026-11-28 12:59", false},
		{SnapshotPolicy{Hourly: 1}, "2026-11-28 14:00", "2026-11-28 12:59", false}, // the clock was set back
		{SnapshotPolicy{Daily: 1}, "2026-11-27 23:59", "2026-11-28 00:00", true},
		{SnapshotPolicy{Weekly: 1}, "2026-11-23 00:00", "2026-11-29 23:59", false}, // Monday to Sunday
		{SnapshotPolicy{Weekly: 1}, "2026-11-29 23:59", "2026-11-30 00:00", true},
		{SnapshotPolicy{Monthly: 1}, "2026-10-31 23:59", "2026-11-01 00:00", true},
		{SnapshotPolicy{Monthly: 1, Daily: 2}, "2026-11-01 23:59", "2026-11-02 00:00", true},
	} {
		if got := auto(c.p, c.last).Due(at(c.now)); got != c.want {
			t.Errorf("%+v, last %s, now %s: %v", c.p, c.last, c.now, got)
		}
	}
	table := auto(SnapshotPolicy{Hourly: 1}, "2026-11-28 12:00")
	table.Entries[0].Auto = false
	if !table.Due(at("2026-11-28 12:30")) {
		t.Error("one that a person made counts")
	}
}

func TestSnapshotPolicyExpired(t *testing.T) {
	table := auto(SnapshotPolicy{Hourly: 2, Daily: 2, Monthly: 2},
		"2026-09-30 10:00", "2026-10-05 10:00", "2026-10-31 10:00", "2026-11-26 10:00", "2026-11-27 09:00", "2026-11-27 10:00",
		"2026-11-28 10:00", "2026-11-28 11:00", "2026-11-28 11:30", "2026-11-28 12:00")
	now := at("2026-11-28 12:10")
	// Hours 11 and 12, days 27 and 28, months 10 and 11: the newest of each.
	want := "2026-09-30 10:00, 2026-10-05 10:00, 2026-11-26 10:00, 2026-11-27 09:00, 2026-11-28 10:00, 2026-11-28 11:00"
	if got := strings.Join(table.Expired(now), ", "); got != want {
		t.Errorf("expired: %s", got)
	}
	table.Entries[0].Holds = []Hold{{Owner: "x"}}
	table.Entries[1].Auto = false
	if got := strings.Join(table.Expired(now), ", "); got != strings.TrimPrefix(want, "2026-09-30 10:00, 2026-10-05 10:00, ") {
		t.Errorf("with one held and one of a person: %s", got)
	}
	table.Policy = SnapshotPolicy{}
	if got := table.Expired(now); got != nil {
		t.Errorf("without a policy: %v", got)
	}
}

// A year under a policy: never more than it says, and never the same twice.
func TestSnapshotPolicyOverTime(t *testing.T) {
	now := at("2026-01-01 00:07")
	p, _ := openFake(t, Options{Now: func() time.Time { return now }}, formatted(t, 256<<20))
	defer closePool(t, p)
	ctx := t.Context()
	check(t, p.SetSnapshotPolicy(ctx, SnapshotPolicy{Hourly: 3, Daily: 3, Monthly: 3}))
	snap(t, p, "mine")
	rnd := rand.New(rand.NewPCG(3, 3))
	for step := range 250 {
		now = now.Add(time.Duration(rnd.IntN(60)) * time.Hour)
		check(t, p.ApplySnapshotPolicy(ctx))
		check(t, p.ApplySnapshotPolicy(ctx)) // at once again: nothing to do
		all, err := p.SnapshotNames(ctx)
		check(t, err)
		if len(all) > 1+9 || all[0].Name != "mine" {
			t.Fatalf("step %d: %v", step, all)
		}
		if newest := all[len(all)-1]; now.Sub(newest.Created) >= time.Hour {
			t.Fatalf("step %d: newest is of %v, now %v", step, newest.Created, now)
		}
	}
}

// A full pool gives up automatic snapshots, the oldest first, before it
// refuses a writer, and only if it may.
func TestSnapshotsFreedForSpace(t *testing.T) {
	now := at("2026-01-01 00:00")
	p, e := openFake(t, Options{Now: func() time.Time { return now }}, formatted(t, 96<<20))
	defer closePool(t, p)
	ctx := t.Context()
	check(t, p.SetSnapshotPolicy(ctx, SnapshotPolicy{Hourly: 100, FreeSpace: true}))
	snap(t, p, "mine")
	rnd := rand.New(rand.NewPCG(4, 4))
	fill := func(name string) error {
		inum := makeFile(t, p, ondisk.InumRoot, name, ondisk.ObjFile)
		block := make([]byte, 1<<20)
		for off := uint64(0); off < 8<<20; off += uint64(len(block)) {
			for i := range block {
				block[i] = byte(rnd.Uint32())
			}
			tx, err := p.Begin(ctx, Cost{Leaves: 20, Bytes: int64(len(block))})
			if err != nil {
				return err
			}
			tx.PutInode(fileMeta(inum, off+uint64(len(block))))
			err = tx.WriteData(ctx, inum, off, block)
			tx.End()
			check(t, err)
		}
		return p.Sync(ctx)
	}
	drop := func(name string) {
		d, ok, err := p.Lookup(ctx, ondisk.InumRoot, name)
		if err != nil || !ok {
			t.Fatal(name, ok, err)
		}
		call(t, p, func(tx *Txn) error { tx.DeleteInode(d.Inum); return tx.RemoveDirent(ondisk.InumRoot, name) })
	}
	var made []string
	for i := range 14 { // twice what the volume holds
		if err := fill(fmt.Sprint("f", i)); err != nil {
			t.Fatalf("round %d: %v, %+v", i, err, e.vols[0].Space())
		}
		now = now.Add(time.Hour)
		name, err := p.SnapshotCreate(ctx, fmt.Sprint("s", i), true)
		check(t, err)
		made = append(made, name)
		drop(fmt.Sprint("f", i))
	}
	all, err := p.SnapshotNames(ctx)
	check(t, err)
	var left []string
	for _, s := range all[1:] {
		left = append(left, s.Name)
	}
	if all[0].Name != "mine" || len(left) == 0 || len(left) == len(made) || !slices.Equal(left, made[len(made)-len(left):]) {
		t.Errorf("of %v are left %v, %v", made, all[0].Name, left)
	}
	check(t, p.SetSnapshotPolicy(ctx, SnapshotPolicy{Hourly: 100}))
	refused := false
	for i := range 14 {
		refused = refused || fill(fmt.Sprint("g", i)) != nil
		if refused {
			break
		}
	}
	again, err := p.SnapshotNames(ctx)
	check(t, err)
	if !refused || len(again) != len(all) {
		t.Errorf("not allowed to free: refused %v, %d snapshots of %d left", refused, len(again), len(all))
	}
	_, err = e.vols[0].Bulkfree(ctx, chain.BulkfreeOptions{})
	check(t, err)
}

// fullOfSnapshots is a pool in which automatic snapshots hold nearly all space,
// each so many MiB of its own.
func fullOfSnapshots(t *testing.T, each int) (*Pool, func(name string, size int) error) {
	t.Helper()
	now := at("2026-01-01 00:00")
	p, e := openFake(t, Options{Now: func() time.Time { return now }}, formatted(t, 96<<20))
	ctx := t.Context()
	check(t, p.SetSnapshotPolicy(ctx, SnapshotPolicy{Hourly: 100, FreeSpace: true}))
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(4, 4))
	fill := func(name string, size int) error {
		mu.Lock()
		block := make([]byte, size)
		for i := 0; i < size; i += 8 {
			binary.LittleEndian.PutUint64(block[i:], rnd.Uint64())
		}
		inum := makeFile(t, p, ondisk.InumRoot, name, ondisk.ObjFile)
		mu.Unlock()
		for at := 0; at < size; at += 64 << 10 {
			tx, err := p.Begin(ctx, Cost{Leaves: 2, Bytes: 64 << 10})
			if err != nil {
				return err
			}
			tx.PutInode(fileMeta(inum, uint64(size)))
			err = tx.WriteData(ctx, inum, uint64(at), block[at:min(at+64<<10, size)])
			tx.End()
			if err != nil {
				return err
			}
		}
		return p.Sync(ctx)
	}
	for i := 0; e.vols[0].Space().Avail() > uint64(each+2)<<20; i++ {
		check(t, fill(fmt.Sprint("f", i), each<<20))
		now = now.Add(time.Hour)
		_, err := p.SnapshotCreate(ctx, fmt.Sprint("s", i), true)
		check(t, err)
		d, ok, err := p.Lookup(ctx, ondisk.InumRoot, fmt.Sprint("f", i))
		if err != nil || !ok {
			t.Fatal(i, ok, err)
		}
		call(t, p, func(tx *Txn) error {
			tx.DeleteInode(d.Inum)
			return tx.RemoveDirent(ondisk.InumRoot, fmt.Sprint("f", i))
		})
	}
	mustSync(t, p)
	return p, fill
}

func snapshotCount(t *testing.T, p *Pool) int {
	t.Helper()
	all, err := p.SnapshotNames(t.Context())
	check(t, err)
	return len(all)
}

// Writers who find no room at the same time have the oldest snapshot go, not one
// each.
func TestSnapshotsFreedForManyWriters(t *testing.T) {
	p, fill := fullOfSnapshots(t, 8)
	defer closePool(t, p)
	had := snapshotCount(t, p)
	var wg sync.WaitGroup
	for i := range 8 { // 12 MiB
		wg.Go(func() {
			if err := fill(fmt.Sprint("g", i), 3<<19); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	left := snapshotCount(t, p)
	if had < 6 || left < had-4 || left == had {
		t.Errorf("%d of %d snapshots are left after 12 MiB, of 8 MiB each", left, had)
	}
	// Who comes when another made room takes that.
	all, err := p.SnapshotNames(t.Context())
	check(t, err)
	check(t, p.SnapshotDelete(t.Context(), all[0].Name))
	check(t, p.Bulkfree(t.Context()))
	check(t, p.engine.drainFrees(t.Context()))
	p.refresh()
	check(t, p.freeSnapshot(t.Context(), 64<<10, true))
	if now := snapshotCount(t, p); now != left-1 {
		t.Errorf("%d of %d snapshots are left where there was room", now, left-1)
	}
}

// What somebody has looked at is let go before the next snapshot has to go, too.
func TestSnapshotsFreedThatAreLookedAt(t *testing.T) {
	p, fill := fullOfSnapshots(t, 8)
	defer closePool(t, p)
	open := make(map[string]*Pool)
	all, err := p.SnapshotNames(t.Context())
	check(t, err)
	for _, s := range all {
		open[s.Name], err = p.OpenSnapshot(t.Context(), s)
		check(t, err)
	}
	p.OnForget(func(ctx context.Context) {
		now, err := p.SnapshotNames(ctx)
		check(t, err)
		for name, view := range open {
			if !slices.ContainsFunc(now, func(s SnapshotName) bool { return s.Name == name }) {
				check(t, view.Close(ctx))
				delete(open, name)
				p.Dropped()
			}
		}
	})
	check(t, fill("g", 9<<20))
	if left := snapshotCount(t, p); left < len(all)-3 || left == len(all) {
		t.Errorf("%d of %d snapshots are left after 9 MiB, of 8 MiB each", left, len(all))
	}
	for _, view := range open {
		check(t, view.Close(t.Context()))
	}
}

// Symptom: the space of a deleted snapshot that somebody had open came back with
// the next commit after up to two hours, or never.
func TestSpaceOfSnapshotFoundWhenClosed(t *testing.T) {
	p, _ := fullOfSnapshots(t, 8)
	defer closePool(t, p)
	ctx := t.Context()
	all, err := p.SnapshotNames(ctx)
	check(t, err)
	view, err := p.OpenSnapshot(ctx, all[0])
	check(t, err)
	check(t, p.SnapshotDelete(ctx, all[0].Name))
	for range 3 { // earlier walks find nothing, and the next is far away
		check(t, p.Bulkfree(ctx))
	}
	before := p.engine.space()
	check(t, view.Close(ctx))
	p.Dropped()
	for deadline := time.Now().Add(time.Minute); ; {
		now := p.engine.space()
		if now.Free+now.Pending > before.Free+before.Pending+7<<20 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, before %+v", now, before)
		}
		<-time.After(time.Millisecond)
	}
}
