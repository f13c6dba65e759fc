package events

import (
	"log/slog"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
)

// lookEvery is how often the status is compared with what it was.
const lookEvery = 5 * time.Second

// A Pool is what is watched.
type Pool interface {
	Subscribe() <-chan cluster.Event
	Status() cluster.Status
	Integrity() advice.Integrity
	Trees() []advice.Tree
}

// A Watcher turns what a pool tells into lines of the log and runs of a hook.
type Watcher struct {
	pool  Pool
	mount Mount
	log   *slog.Logger
	hook  *Hook // nil: none
	last  cluster.Status
	lastI advice.Integrity
	fills fills
	quit  chan struct{}
	done  chan struct{}
}

// Watch starts watching. What is wrong already is told first. hook may be nil.
func Watch(p Pool, m Mount, hook *Hook, log *slog.Logger) *Watcher {
	w := &Watcher{pool: p, mount: m, log: log, hook: hook, quit: make(chan struct{}), done: make(chan struct{})}
	subscription := p.Subscribe()
	w.last, w.lastI = p.Status(), p.Integrity()
	go w.loop(subscription)
	return w
}

// Close tells of the end, and returns when the hook has ended. It may be
// called after the pool was closed.
func (w *Watcher) Close(err error) {
	close(w.quit)
	<-w.done
	e := Event{Time: time.Now(), What: Unmounted}
	if err != nil {
		e.Error, e.Bad = err.Error(), true
	}
	w.tell(e)
	if w.hook != nil {
		w.hook.Close()
	}
}

func (w *Watcher) loop(subscription <-chan cluster.Event) {
	defer close(w.done)
	w.tell(Event{Time: time.Now(), What: Mounted})
	for _, n := range w.last.Nodes {
		if !good[string(n.State)] && !away(&n, n.State) {
			w.tell(Event{Time: n.Since, What: string(n.State), Node: n.Name, Error: n.Error, Bad: true})
		}
	}
	w.lookAtTrees()
	for _, c := range w.last.Caches {
		if s := string(c.State); c.State != cluster.CacheOpening && !good[s] {
			w.tell(Event{Time: c.Since, What: s, Node: c.Name, Error: c.Error, Bad: true})
		}
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case e, open := <-subscription:
			if !open {
				<-w.quit
				return
			}
			w.tell(w.fromPool(e))
		case <-tick.C:
			w.look()
		case <-w.quit:
			return
		}
	}
}

// look compares the status with the last one.
func (w *Watcher) look() {
	now, integrity := w.pool.Status(), w.pool.Integrity()
	at := time.Now()
	for _, e := range append(compare(&w.last, &now, at), compareIntegrity(&w.lastI, &integrity, at)...) {
		w.tell(e)
	}
	w.last, w.lastI = now, integrity
	w.lookAtTrees()
}

func (w *Watcher) lookAtTrees() {
	for _, e := range w.fills.compare(w.pool.Trees(), time.Now()) {
		w.tell(e)
	}
}

// fromPool knows which of what the pool says is bad.
func (w *Watcher) fromPool(e cluster.Event) Event {
	out := Event{Time: e.Time, What: e.What, Node: e.Node, Count: e.Count, Error: e.Error, Bad: !good[e.What]}
	for _, n := range w.pool.Status().Nodes {
		if n.Name == e.Node && away(&n, cluster.NodeState(e.What)) {
			out.Bad = false
		}
	}
	return out
}

// away reports whether a node is one that may be away, and was.
func away(n *cluster.NodeStatus, was cluster.NodeState) bool {
	return n.Soft() && (was == cluster.NodeMissing || was == cluster.NodeFailed)
}

func (w *Watcher) tell(e Event) {
	e.log(w.log, &w.mount)
	if w.hook != nil {
		w.hook.Send(e)
	}
}
