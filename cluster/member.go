package cluster

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
)

// A conn is one open of one member: the volume, and the node of the protocol
// that lives on it. A member that fails gets a new conn when it is reopened.
//
// Lock order: conn.mu, then engine.qmu. Jobs run without locks, one at a time.
type conn struct {
	*Media
	why string // what is wrong with it, if its flags are set
	log *slog.Logger

	back sync.Mutex // held while a resync gives the member back

	mu      sync.Mutex
	node    *core.Node
	send    func(*core.Message) // to the primary; never blocks
	paused  bool                // a resync owns the PFS; messages are dropped
	closed  bool
	spoilt  bool // a txg met damage in the tree: the device works
	jobs    sync.WaitGroup
	applied uint64

	vmu     sync.Mutex
	durable core.Durable // tree and intent log
	pos     Position     // of view: what is in the log is not in it
	view    *chain.View
	law     *Charter  // of view
	when    time.Time // it came to pos; zero = not known

	leveling atomic.Bool // the log is being brought into the tree
}

// start makes the conn answer the messages of a primary.
func (c *conn) start(now time.Duration, d core.Durable, send func(*core.Message)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.node = core.NewNode(now, c.info.Fsid, d, core.NodeOptions{})
	c.send = send
}

// deliver gives the node an event. It never blocks on I/O.
func (c *conn) deliver(now time.Duration, ev core.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, isDone := ev.(core.Done); c.closed || c.paused && !isDone {
		return
	}
	for _, eff := range c.node.Step(now, ev) {
		switch eff := eff.(type) {
		case core.Send:
			c.send(eff.Msg)
		case core.Start:
			c.jobs.Add(1)
			go c.run(eff.Job, c.node.State(), now)
		}
	}
}

// run performs a job and reports its end.
func (c *conn) run(j *core.Job, before core.Durable, now time.Duration) {
	began := time.Now()
	result := core.OK
	if err := c.perform(j, before); err != nil {
		result = c.Result(err)
		spoilt := result == core.Broken && c.Damages(err)
		c.log.Warn("member cannot be written", "member", c.name, "err", err)
		c.mu.Lock()
		c.why, c.spoilt = err.Error(), spoilt
		c.mu.Unlock()
	}
	c.deliver(now+time.Since(began), core.Done{Result: result})
	c.jobs.Done()
}

// perform makes a job durable and shows readers what it left.
func (c *conn) perform(j *core.Job, before core.Durable) error {
	if err := c.Perform(j, before); err != nil {
		return err
	}
	d := j.After(before)
	c.mu.Lock()
	if j.Txg != nil {
		c.applied++
	}
	c.mu.Unlock()
	c.vmu.Lock()
	c.durable = d
	same := c.pos == d.Pos // a promise, and the log was empty
	c.vmu.Unlock()
	if same || c.vol.Logged() > 0 {
		return nil // readers have what is logged in their overlays
	}
	return c.show(context.Background(), d)
}

// show makes the committed state what readers get.
func (c *conn) show(ctx context.Context, d core.Durable) error {
	v, err := c.vol.View(ctx, c.label)
	if err != nil {
		return err
	}
	c.vmu.Lock()
	old := c.view
	c.durable = d
	c.view, c.pos, c.law, c.when = v, d.Pos, d.Charter, fromNano(uint64(c.entry.Time))
	c.vmu.Unlock()
	if old != nil {
		old.Release()
	}
	return nil
}

// showAgain gives readers the tree as it is now, changed by others than the
// protocol: a leaf was repaired, or the log was brought in.
func (c *conn) showAgain(ctx context.Context) error {
	v, err := c.vol.View(ctx, c.label)
	if err != nil {
		return err
	}
	c.vmu.Lock()
	old := c.view
	switch {
	case old != nil && v.T() == c.pos.T:
		c.view = v
	case old != nil && v.T() == c.durable.Pos.T:
		c.view, c.pos, c.law = v, c.durable.Pos, c.durable.Charter
	default: // a txg came between: its own view follows
		old = v
	}
	c.vmu.Unlock()
	old.Release()
	return nil
}

// level brings what is logged into the tree, and shows it.
func (c *conn) level(ctx context.Context) error {
	if err := c.Level(ctx); err != nil {
		return err
	}
	return c.showAgain(ctx)
}

// shown returns what readers get, retained; ok is false after close.
func (c *conn) shown() (v *chain.View, pos Position, law *Charter, ok bool) {
	c.vmu.Lock()
	defer c.vmu.Unlock()
	if c.view == nil {
		return nil, c.pos, c.law, false
	}
	c.view.Retain()
	return c.view, c.pos, c.law, true
}

// since is when the node came to where its view is.
func (c *conn) since() time.Time {
	c.vmu.Lock()
	defer c.vmu.Unlock()
	return c.when
}

// position is the last txg that is durable.
func (c *conn) position() Position {
	c.vmu.Lock()
	defer c.vmu.Unlock()
	return c.durable.Pos
}

// shownAt is where the view is.
func (c *conn) shownAt() Position {
	c.vmu.Lock()
	defer c.vmu.Unlock()
	return c.pos
}

func (c *conn) setPosition(pos Position) {
	c.vmu.Lock()
	defer c.vmu.Unlock()
	c.pos, c.durable.Pos = pos, pos
}

func (c *conn) reason() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

func (c *conn) setReason(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.why = why
}

// state is the node's durable state.
func (c *conn) state() core.Durable {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.node.State()
}

func (c *conn) numbers() (applied uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.applied
}

// pause gives the PFS to a resync: no message reaches the node any more. It
// waits for the job that is out.
func (c *conn) pause() {
	c.mu.Lock()
	c.paused = true
	c.mu.Unlock()
	c.jobs.Wait()
}

// resume reads the state that a resync left and lets messages in again.
//
// It may be in use again already, when a join came too late and the resync then
// gives up: what it does ends first, and the state is read after that.
func (c *conn) resume(ctx context.Context, now time.Duration) (core.Durable, error) {
	c.pause()
	d, err := c.load(ctx)
	if err != nil {
		return d, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.node.Step(now, core.Reset{State: d})
	c.paused, c.spoilt = false, false
	return d, nil
}

// mute drops what the node still has to say: the primary has given it up.
func (c *conn) mute() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
}

// leave does what the node was told and has not done yet, and what it is told last,
// and closes the volume.
func (c *conn) leave(now time.Duration, last []*core.Message) error {
	c.jobs.Wait()
	for _, msg := range last {
		c.deliver(now, core.Recv{Msg: msg})
		c.jobs.Wait()
	}
	return c.close()
}

// close waits for the job that is out and closes the volume. With a device
// that hangs it hangs too.
func (c *conn) close() error {
	c.mute()
	c.jobs.Wait()
	c.vmu.Lock()
	v := c.view
	c.view = nil
	c.vmu.Unlock()
	if v != nil {
		v.Release()
	}
	// What its tree cannot take is told to the next open, and no reason to call
	// what the others have not durable.
	if err := c.Level(context.Background()); err != nil && c.GiveUpLog(context.Background(), err) {
		c.log.Error("intent log given up", "member", c.name, "err", err)
	}
	return c.vol.Close()
}
