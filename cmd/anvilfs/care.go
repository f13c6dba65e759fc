package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
	resync "github.com/anvilfs/anvilfs/sync"
	"github.com/anvilfs/anvilfs/sync/ledger"
	"github.com/anvilfs/anvilfs/sync/scrub"
)

// A care is what runs beside a mount to keep its copies right: resync, scrub,
// repair, and the memory of what was bad.
type care struct {
	log     *slog.Logger
	found   chan finding // what reads found bad, for the ledger
	ledger  *ledger.Ledger
	noBook  error                                  // why there is no ledger
	past    func(all bool) ([]ledger.Entry, error) // what is in that of a mount that is not written
	resync  *resync.Manager
	scrub   *scrub.Manager
	retrier *ledger.Retrier
	cancel  context.CancelFunc
	workers sync.WaitGroup
	once    sync.Once       // closes the ledger
	mounted chan *fs.Server // has it once it is there
}

// A finding is something bad, and what came of the try to repair it.
type finding struct {
	damage cluster.Damage
	path   string // "" = to be looked up
	err    error
}

func newCare(log *slog.Logger) *care {
	return &care{log: log, found: make(chan finding, 256), cancel: func() {}, mounted: make(chan *fs.Server, 1)}
}

// damaged is told by the pool; it must not wait.
func (c *care) damaged(d cluster.Damage, err error) {
	select {
	case c.found <- finding{damage: d, err: err}:
	default:
		c.log.Warn("so much is bad that some is not written down", "what", d.String())
	}
}

// retryNow has resyncs that wait after a failure tried at once.
func (c *care) retryNow() {
	if c.resync != nil {
		c.resync.RetryNow()
	}
}

// start begins all that belongs to a mount that is written.
func (c *care) start(p *cluster.Pool, seen *sightings, o *mountOptions) {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	if o.readOnly {
		c.noBook = errors.New("the mount is read-only")
		c.past = func(all bool) ([]ledger.Entry, error) {
			path, err := ledgerFile(p.ID(), o.state)
			if err != nil {
				return nil, err
			}
			return ledger.Read(path, all)
		}
		return
	}
	if c.ledger, c.noBook = openLedger(p.ID(), o.state, c.log); c.noBook != nil {
		c.log.Warn("nothing is remembered of what is found bad, nor how far a scrub is", "err", c.noBook)
	}
	c.resync = resync.NewManager(p, resync.Options{Logger: c.log})
	mender := resync.NewMender(p, c.resync)
	if c.ledger != nil {
		c.retrier = ledger.NewRetrier(c.ledger, mender.Repair, c.log)
	}
	c.workers.Go(func() { c.resync.Run(ctx) })
	c.workers.Go(func() { seen.keep(ctx, p) })
	c.workers.Go(func() { keepSnapshots(ctx, p, c.log) })
	so := scrub.Options{Logger: c.log, Every: o.scrub, Found: func(d cluster.Damage, path string, err error) {
		c.write(finding{d, path, err})
	}, Overwrote: func(o scrub.Overwritten) { c.mended(ctx, o) }}
	if c.ledger != nil {
		so.Save = func(s *scrub.State) error { return c.ledger.SaveJob("scrub", s) }
		so.Load = c.loadScrub
		so.Compared = func(began time.Time) {
			if err := c.ledger.Compared(began); err != nil {
				c.log.Warn("what is equal again is still listed as differing", "err", err)
			}
		}
		c.workers.Go(func() { c.retrier.Run(ctx) })
	}
	c.scrub = scrub.NewManager(mender, so)
	c.workers.Go(func() { c.scrub.Run(ctx) })
	c.workers.Go(func() { c.record(ctx, p) })
	if c.ledger != nil {
		turns, away := p.Subscribe(), make(map[string]bool)
		for _, n := range p.Status().Nodes {
			away[n.Name] = n.State != cluster.NodeInSync && n.State != cluster.NodeBehind
		}
		c.workers.Go(func() { c.follow(ctx, turns, away) })
	}
}

// follow has what is bad on a node tried again as soon as it is back in sync: while it
// is away nothing is repaired on it, and if it was copied, most of it is right now. One
// that is only slower than the others at times was not away, nor one that was grown.
// away is who is at first.
func (c *care) follow(ctx context.Context, turns <-chan cluster.Event, away map[string]bool) {
	for {
		select {
		case e, open := <-turns:
			switch {
			case !open:
				return
			case e.Node == "" || e.What == string(cluster.NodeBehind) || e.What == cluster.TurnGrown:
			case e.What != string(cluster.NodeInSync):
				away[e.Node] = true
			case away[e.Node]:
				delete(away, e.Node)
				c.again(e.Node)
			}
		case <-ctx.Done():
			return
		}
	}
}

// again has what is bad on a node tried now.
func (c *care) again(node string) {
	n, err := c.ledger.RetryNode(node)
	if err != nil {
		c.log.Warn("what was bad on a node is tried again only later", "node", node, "err", err)
	}
	if n > 0 {
		c.retrier.Wake()
	}
}

// mended has what was read of a wrong copy forgotten, here and in the kernel.
func (c *care) mended(ctx context.Context, o scrub.Overwritten) {
	select {
	case s := <-c.mounted:
		c.mounted <- s
		s.Mended(ctx, o.Snapshot, o.Inum, o.Names)
	case <-ctx.Done():
	}
}

func (c *care) loadScrub() *scrub.State {
	var s scrub.State
	ok, err := c.ledger.LoadJob("scrub", &s)
	if err != nil {
		c.log.Warn("how far the last scrub was is not known", "err", err)
	}
	if !ok || err != nil {
		return nil
	}
	return &s
}

// record writes down what reads find.
func (c *care) record(ctx context.Context, p *cluster.Pool) {
	for {
		select {
		case f := <-c.found:
			f.path = p.PathOfDamage(ctx, &f.damage)
			c.write(f)
		case <-ctx.Done():
			return
		}
	}
}

func (c *care) write(f finding) {
	if c.ledger == nil {
		return
	}
	if err := c.ledger.Found(f.damage, f.path, f.err); err != nil {
		c.log.Warn("what was found bad is not written down", "what", f.damage.String(), "err", err)
	}
}

// report says how the copies are looked after, without I/O.
func (c *care) report() (i advice.Integrity) {
	if c.scrub != nil {
		rep := c.scrub.Report()
		i.Scrub = &rep
	}
	book := ledger.Report{}
	switch {
	case c.ledger != nil:
		book = c.ledger.Report()
	case c.scrub == nil:
		return i // nothing is looked after
	case c.noBook != nil:
		book.Err = c.noBook.Error()
	}
	i.Errors = &book
	return i
}

// stop ends it all; it may be called before start and twice.
func (c *care) stop() {
	c.cancel()
	c.workers.Wait()
	c.once.Do(func() {
		if c.ledger == nil {
			return
		}
		if err := c.ledger.Close(); err != nil {
			c.log.Warn("closing the ledger", "err", err)
		}
	})
}

// openLedger opens the file that remembers a cluster's errors on this host.
func openLedger(id ondisk.UUID, named string, log *slog.Logger) (*ledger.Ledger, error) {
	path, err := ledgerFile(id, named)
	if err != nil {
		return nil, err
	}
	return ledger.Open(path, ledger.Options{Log: log, Named: named != ""})
}

// ledgerFile is the file that was named, or one by the cluster's id.
func ledgerFile(id ondisk.UUID, named string) (string, error) {
	if named != "" {
		return named, nil
	}
	dir, err := stateDir()
	return filepath.Join(dir, id.String()+ledgerSuffix), err
}

// What this host remembers of a cluster, behind its id, in stateDir.
const (
	ledgerSuffix = ".db"
	seenSuffix   = ".seen"
)

// forgetCluster takes away what this host remembers of a cluster that there is no
// more: of a branch, each of which has an id of its own.
func forgetCluster(id ondisk.UUID, log *slog.Logger) {
	dir, err := stateDir()
	if err != nil {
		return // nothing is remembered
	}
	path := filepath.Join(dir, id.String())
	err = ledger.Remove(path + ledgerSuffix)
	if serr := os.Remove(path + seenSuffix); !errors.Is(serr, os.ErrNotExist) {
		err = errors.Join(err, serr)
	}
	if err != nil {
		log.Warn("what was remembered of a branch that ended is still there: it is needed no more", "err", err)
	}
}

// stateDir is where programs keep what must outlive a restart.
func stateDir() (string, error) {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" { // systemd's
		return dir, nil
	}
	if os.Geteuid() == 0 {
		return "/var/lib/anvilfs", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "anvilfs"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no place for state: set XDG_STATE_HOME, or mount with state=FILE: %w", err)
	}
	return filepath.Join(home, ".local", "state", "anvilfs"), nil
}
