package resync

import (
	"fmt"
	"testing"

	"github.com/anvilfs/anvilfs/cluster"
)

func TestOfflineAndBack(t *testing.T) {
	b := newBench(t, 256<<20)
	b.mount(0, 1, 2)
	inums := make(map[string]uint64)
	for i := range 300 {
		name := fmt.Sprintf("before%d", i)
		inums[name] = b.file(name, 3000+i, byte(i))
	}
	b.sync()
	if err := b.pool.NodeOffline(b.ctx(), "m1"); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		b.file(fmt.Sprintf("during%d", i), 70000, byte(i))
		if i%10 == 0 {
			b.sync()
		}
	}
	for i := range 50 {
		name := fmt.Sprintf("before%d", i)
		b.remove(name, inums[name])
	}
	b.sync()
	if err := b.pool.NodeOnline(b.ctx(), "m1"); err != nil {
		t.Fatal(err)
	}
	b.wait("healthy")
	b.file("after", 5000, 1)
	b.rest()
	b.stop()
	b.equal()
}

// TestAwayForLong forces a copy: what happened is not retained any more,
// since another mount did it.
func TestAwayForLong(t *testing.T) {
	b := newBench(t, 256<<20)
	b.mount(0, 1, 2)
	first := b.file("first", 200000, 3)
	for i := range 500 {
		b.file(fmt.Sprintf("old%d", i), 1000, byte(i))
	}
	b.stop()
	b.gone[2].Store(true)
	b.mount(0, 1, 2)
	b.remove("first", first)
	for i := range 20 {
		b.file(fmt.Sprintf("new%d", i), 66000, byte(i))
	}
	b.stop()
	b.gone[2].Store(false)
	b.mount(0, 1, 2)
	b.wait("healthy")
	st := b.pool.Status()
	for _, n := range st.Nodes {
		if rep, ok := n.Resync.(Report); ok && n.Name == "m2" {
			if rep.LeavesDone > 200 {
				t.Errorf("%d changes copied for about 65 that were made", rep.LeavesDone)
			}
			t.Logf("copied %d changes, %d bytes, compared %d leaves", rep.LeavesDone, rep.BytesDone, rep.Compared)
		}
	}
	b.stop()
	b.equal()
}

// TestDivergent gives one member a tail that the others never saw: they fail
// when it is written.
func TestDivergent(t *testing.T) {
	b := newBench(t, 256<<20)
	b.mount(0, 1, 2)
	b.file("shared", 70000, 1)
	b.sync()
	b.bad[0].Store(true)
	b.bad[1].Store(true)
	b.file("lost", 70000, 2)
	b.syncOn("m2")
	b.abandon()
	if st := b.content(2); st["entry lost"] == "" {
		t.Fatal("the scenario is wrong: member 2 has no tail")
	}
	b.bad[0].Store(false)
	b.bad[1].Store(false)
	b.mount(0, 1) // a majority that knows nothing of "lost"
	b.file("kept", 70000, 3)
	b.stop()
	b.mount(0, 1, 2)
	b.rest()
	b.stop()
	b.equal()
	st := b.content(2)
	if st["entry lost"] != "" || st["entry kept"] == "" {
		t.Error("member 2 is not in the state of the majority")
	}
	if !b.has(2, divergedPrefix) {
		t.Error("what only member 2 had was not kept as a snapshot")
	}
}

// TestSourceMoves writes all the time while a member is brought back.
func TestSourceMoves(t *testing.T) {
	b := newBench(t, 512<<20)
	b.mount(0, 1, 2)
	b.file("first", 70000, 1)
	b.stop()
	b.gone[1].Store(true)
	b.mount(0, 1, 2)
	for i := range 400 {
		b.file(fmt.Sprintf("away%d", i), 66000, byte(i))
	}
	b.stop()
	b.gone[1].Store(false)
	b.mount(0, 1, 2)
	for i := 0; ; i++ {
		b.file(fmt.Sprintf("busy%d", i), 10000, byte(i))
		if i%5 == 0 {
			b.sync()
		}
		if st := b.pool.Status(); st.Health == cluster.PoolHealthy && i > 50 {
			break
		}
		if i > 20000 {
			t.Fatal("it never joined")
		}
	}
	b.rest()
	b.stop()
	b.equal()
}

// The device of the returning member fails at various points, and works again
// when it is opened anew.
func TestWriteErrors(t *testing.T) {
	for _, o := range []Options{{}, small} {
		for _, writes := range []int64{2, 16, 25} {
			b := newBench(t, 256<<20)
			b.o = o
			b.mount(0, 1, 2)
			b.file("first", 70000, 1)
			b.rest()
			b.stop()
			b.gone[2].Store(true)
			b.mount(0, 1, 2)
			for i := range 40 {
				b.file(fmt.Sprintf("away%d", i), 66000, byte(i))
			}
			b.stop()
			b.gone[2].Store(false)
			b.fuse[2].Store(writes)
			b.mount(0, 1, 2)
			b.wait("healthy")
			b.fuse[2].Store(0)
			b.rest()
			b.stop()
			b.equal()
		}
	}
}
