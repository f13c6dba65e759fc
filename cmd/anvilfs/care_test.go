package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/sync/ledger"
)

// What is bad on a member that is away is repaired when it is back, not when its
// next try would have come.
func TestBadIsTriedAgainWhenItsMemberIsBack(t *testing.T) {
	c := newCare(slog.New(slog.DiscardHandler))
	var err error
	if c.ledger, err = ledger.Open(filepath.Join(t.TempDir(), "ledger.db"), ledger.Options{}); err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	bad := cluster.Damage{Node: "b", Label: "HOME", Leaf: cluster.Leaf{Inum: 7, Kind: ondisk.TypeData}}
	if err := c.ledger.Found(bad, "/f", errors.New("it is away")); err != nil {
		t.Fatal(err)
	}
	tried := make(chan cluster.Damage, 8)
	c.retrier = ledger.NewRetrier(c.ledger, func(_ context.Context, d cluster.Damage) error { tried <- d; return nil }, c.log)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.cancel = cancel
	c.workers.Go(func() { c.retrier.Run(ctx) })
	turns := make(chan cluster.Event)
	c.workers.Go(func() { c.follow(ctx, turns) })
	for _, e := range []cluster.Event{
		{Node: "a", What: string(cluster.NodeInSync)}, {Node: "b", What: string(cluster.NodeBehind)}, {What: "quorum held"},
	} {
		turns <- e
	}
	select {
	case d := <-tried:
		t.Fatalf("%v was tried while its member is away", &d)
	default:
	}
	turns <- cluster.Event{Node: "b", What: string(cluster.NodeInSync)}
	select {
	case d := <-tried:
		if d != bad {
			t.Errorf("tried %v, want %v", &d, &bad)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was tried")
	}
}
