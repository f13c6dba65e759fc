package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	restWait      = 2 * time.Second  // for the rest, once a quorum answered
	resendAfter   = 10 * time.Second // nothing is lost inside a process
	windowBytes   = 64 << 20         // of txgs kept for replay
	defaultHung   = 30 * time.Second
	startPatience = 10 * time.Second // beyond the deadline, for an election
)

// An engine runs the protocol of one PFS over its members.
//
// Its loop, one goroutine, owns the primary and the table of members; it gets
// closures to run and never blocks. Each member's I/O is done by goroutines
// of its conn. Readers take what the loop published under mu.
//
// Lock order: conn.mu, then qmu. mu is taken alone.
type engine struct {
	o        Options
	log      *slog.Logger
	began    time.Time
	solo     bool
	deadline time.Duration

	qmu   sync.Mutex
	queue []func() // for the loop
	wake  chan struct{}
	quit  chan struct{} // closed to end the loop
	ended chan struct{} // closed when the loop has ended
	tasks sync.WaitGroup
	ctx   context.Context // of opening, copying and repairing
	stop  context.CancelFunc

	gate chan struct{} // one token: the right to commit

	// Owned by the loop.
	primary    *core.Primary
	members    []*member
	request    *request
	refused    error
	waiting    error // why no quorum, while electing
	reconfig   chan *Config
	clid       ondisk.UUID
	forked     *Branch         // what is mounted is one; set before the loop begins
	notify     bool            // the next publication wakes everybody
	led        map[uint32]bool // epochs of this primary
	everServed bool
	copier     *hold         // of the copy for the barrier that is under way
	copyFrom   int           // the member whose turn is next
	written    time.Duration // when the last txg was committed
	sealed     bool          // nothing but empty txgs followed the last with content
	past       bool          // others changed the members since: nothing is served any more
	base       Position      // the last committed txg that was not for the log

	handed  atomic.Uint64 // mask of the members in the last answer of views
	levelBy atomic.Int64  // until then nothing is logged; time since began

	mu       sync.Mutex
	pub      published
	turns    turns
	changeCh chan struct{}
	bad      damageQueue
}

// published is what the loop lets others see.
type published struct {
	committed Position
	base      Position // what readers have no overlays for: a view must contain it
	next      ondisk.Tid
	quorum    bool
	serving   bool
	changing  bool // members: until that has ended, those before it count too
	past      bool
	charter   *Charter
	members   []memberView
	closed    bool
}

// now is the protocol's clock.
func (e *engine) now() time.Duration { return time.Since(e.began) }

// startEngine opens the members and elects this process primary. On an error
// nothing stays open.
func startEngine(ctx context.Context, members []MemberSpec, o Options) (*engine, error) {
	if len(members) == 0 {
		return nil, refusef("no member given")
	}
	e := newEngine(members, o)
	opened, err := e.openAll(ctx)
	if err == nil {
		err = e.branchOff(ctx, opened)
	}
	if err == nil {
		err = e.admit(opened)
	}
	if err != nil {
		e.abandon(opened)
		return nil, err
	}
	if e.o.ReadOnly {
		if err := e.startReading(); err != nil {
			return nil, err
		}
		e.post(e.lookForAbsent)
		return e, nil
	}
	go e.loop()
	if err := e.elect(ctx); err != nil {
		return nil, errors.Join(err, e.close(context.WithoutCancel(ctx)))
	}
	return e, nil
}

func newEngine(specs []MemberSpec, o Options) *engine {
	e := &engine{
		o: o, log: o.Logger, began: time.Now(), deadline: o.Deadline,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{}),
		gate: make(chan struct{}, 1), changeCh: make(chan struct{}), led: make(map[uint32]bool),
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.deadline <= 0 {
		e.deadline = defaultHung
	}
	e.ctx, e.stop = context.WithCancel(context.Background())
	e.gate <- struct{}{}
	for i, s := range specs {
		e.members = append(e.members, newMember(i, s, NodeFailed))
	}
	return e
}

// elect starts the primary and waits until it serves.
func (e *engine) elect(ctx context.Context) error {
	e.post(func() {
		e.primary = core.NewPrimary(core.PrimaryOptions{
			Seed: rand.Uint64(), Solo: e.solo, Wait: restWait, Retry: resendAfter, Window: e.window(),
			Make: func(T ondisk.Tid, c *core.Charter) (any, [32]byte, int64) {
				b := charterBatch(T, c)
				return b, Manifest(b), batchSize(b)
			},
		})
		for _, m := range e.members {
			if m.conn != nil {
				e.attach(m, m.first)
			}
		}
		e.lookForAbsent()
		e.step(core.Campaign{})
	})
	patience := e.deadline + startPatience
	for last := time.Now(); ; {
		changed := e.changed()
		var serving bool
		var err, waiting error
		var copying bool
		if !e.ask(func() {
			serving, err, waiting, copying = e.primary.Phase() == core.Serving, e.refused, e.waiting, e.copying()
		}) {
			return ErrPoolClosed
		}
		if serving || err != nil {
			return err
		}
		if copying {
			last = time.Now()
		}
		if time.Since(last) > patience {
			return errors.Join(fmt.Errorf("no state could be agreed on within %v", patience), waiting, e.ailing())
		}
		select {
		case <-changed:
		case <-time.After(time.Second):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), waiting)
		}
	}
}

// ailing says which members cannot take part, and why.
func (e *engine) ailing() error {
	var all error
	e.ask(func() {
		for _, m := range e.members {
			if m.err != "" {
				all = errors.Join(all, fmt.Errorf("%s is %s: %s", m.spec.Name, m.state, m.err))
			}
		}
	})
	return all
}

// window bounds the txgs kept for replay: a part of the memory there is.
func (e *engine) window() int64 {
	if e.o.Memory <= 0 {
		return windowBytes
	}
	return min(windowBytes, e.o.Memory/8)
}

// startReading makes a read-only mount: nothing is written, no one is asked
// for a promise. Members show the state that a primary would adopt; without a
// quorum the newest at hand.
func (e *engine) startReading() error {
	var answers []Answer
	for _, m := range e.members {
		if m.conn != nil && !e.returns(m.conn) {
			answers = append(answers, answerOf(m.conn, m.first))
		}
	}
	var at Position
	var law *Charter
	if e.showsSnapshot() {
		at = answers[0].Pos
	} else if a, err := Adopt(answers); err == nil {
		at, law = a.Pos, a.Charter
	} else {
		for _, a := range answers {
			if a.Charter != nil && (law == nil || a.Pos.T > at.T) {
				at, law = a.Pos, a.Charter
			}
		}
		if law == nil {
			e.abandon(nil)
			for _, m := range e.members {
				if m.conn != nil {
					m.conn.close()
				}
			}
			return refusef("no member has a state that can be read: %v", err)
		}
		e.log.Warn("no quorum: showing the newest copy at hand, which may lack acknowledged changes", "at", at.T.String(), "err", err)
	}
	for _, m := range e.members {
		if m.conn == nil {
			continue
		}
		e.pub.committed = at
		e.readOnlyState(m, m.first)
	}
	e.publish(published{committed: at, base: at, charter: law, serving: true})
	go e.loop()
	return nil
}
