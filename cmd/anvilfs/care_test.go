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
	c.workers.Go(func() { c.follow(ctx, turns, make(map[string]bool)) })
	for _, e := range []struct {
		node string
		what cluster.NodeState
	}{
		{"a", cluster.NodeOffline}, {"a", cluster.NodeInSync}, {"", "quorum held"},
		{"b", cluster.NodeBehind}, {"b", cluster.NodeInSync}, // it was slow
		{"b", cluster.TurnGrown}, {"b", cluster.NodeInSync}, // it is in use meanwhile
		{"b", cluster.NodeFailed}, {"b", cluster.NodeResync}, {"b", cluster.NodeBehind},
	} {
		turns <- cluster.Event{Node: e.node, What: string(e.what)}
	}
	turns <- cluster.Event{What: "quorum held"} // all before it was looked at
	list, err := c.ledger.List(false)
	if err != nil || len(list) != 1 || time.Until(list[0].Next) < 10*time.Second {
		t.Fatalf("%+v is to be tried while its member is away (%v)", list, err)
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
