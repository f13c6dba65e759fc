package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/cmd/layout"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

// A controller answers the control files of a mount.
type controller struct {
	pool     *cluster.Pool
	care     *care
	seen     *sightings
	remounts remounts
	calls    *fs.Meter
	label    string
	metrics  atomic.Pointer[scraped] // nil: not wanted
	branches *branches
	merging  atomic.Pointer[merging] // nil: nothing can be written
	server   serverStatus
	files    atomic.Pointer[fs.FS] // nil while it is being mounted
	trees    *treeLook
	layout   *layoutLook
	mount    atomic.Pointer[fs.Server]
	log      *slog.Logger
}

// A mountStatus is what status.json holds: the pool, and who serves it.
type mountStatus struct {
	cluster.Status
	advice.Integrity
	Now    time.Time       `json:"now"`
	Calls  []fs.CallReport `json:"calls"`     // the kernel's requests since the mount
	Out    int64           `json:"calls_out"` // of them, not answered yet
	Server serverStatus    `json:"server"`
	// Quotas are the directory trees near their limits, the fullest first.
	Quotas []advice.Tree `json:"quotas,omitempty"`
	// Held are deleted snapshots of which something is still open.
	Held []string `json:"deleted_snapshots_in_use,omitempty"`
	// Layout is what the members tolerate less than it seems.
	Layout []layout.Finding `json:"layout,omitempty"`
	// ReadOnly is set while the kernel refuses changes of a mount that was made
	// without ro.
	ReadOnly *readOnlyStatus `json:"read_only,omitempty"`
}

type serverStatus struct {
	PID     int       `json:"pid"`
	Source  string    `json:"source"`
	Cluster string    `json:"cluster_id"`
	Home    string    `json:"home"` // where paths begin that are not absolute
	Dir     string    `json:"directory"`
	Since   time.Time `json:"since"`
	Version string    `json:"version"`
	metricsStatus
}

// Command carries out one line written to the control file.
func (c *controller) Command(ctx context.Context, line string, w io.Writer) error {
	err := c.command(ctx, line, w)
	if err == nil {
		return nil
	}
	return &typedError{advice.Typed(err.Error(), c.server.Dir, ""), err}
}

// A typedError is an error of which the commands can be typed as they stand.
type typedError struct {
	text string
	err  error
}

func (e *typedError) Error() string { return e.text }
func (e *typedError) Unwrap() error { return e.err }

func (c *controller) command(ctx context.Context, line string, w io.Writer) error {
	if err := oneCommand(line); err != nil {
		return err
	}
	words, err := splitWords(line)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return errors.New("an empty command: help lists what can be asked")
	}
	switch words[0] {
	case "help", "pid", "sync", "bulkfree":
		err = nothingMore(words[0], words[1:])
	case "status":
		err = nothingMore("status", words[1:], "--json")
	}
	if err != nil {
		return err
	}
	c.log.Debug("control", "command", line)
	switch verb, rest := words[0], words[1:]; verb {
	case "help":
		_, err = io.WriteString(w, controlHelp)
	case "status":
		err = c.status(rest, w)
	case "pid":
		_, err = fmt.Fprintln(w, c.server.PID)
	case "sync":
		if err = c.pool.Settle(ctx); err == nil {
			c.recount()
		}
	case "remounting": // to ro, next: by whom
		c.remounts.announced(strings.Join(rest, " "))
	case "wait":
		err = c.wait(ctx, rest)
	case "node":
		err = c.node(ctx, rest, w)
	case "scrub":
		err = c.scrubbing(ctx, rest, w)
	case "errors":
		err = c.badness(rest, w)
	case "snapshot":
		err = c.snapshot(ctx, rest, w)
	case "dedup":
		err = c.merging.Load().command(ctx, rest, w)
	case "conflicts":
		err = c.branches.command(ctx, c.files.Load(), rest, w)
	case "bulkfree":
		err = c.bulkfree(ctx, w)
	case "quota":
		err = c.quota(ctx, rest, w)
	case "du":
		err = c.du(ctx, rest, w)
	default:
		err = fmt.Errorf("%q is not a command of a mount: help lists them", verb)
	}
	return err
}

const controlHelp = `status [--json]                   the state of the mount and its nodes
sync                              make everything durable
wait resync|quorum|healthy|snapshots|scrub [TIME]   return when it is so
node offline|online NODE          take away, bring back
node discard NODE [--force]       give up what only it has, copy anew
node replace NODE DEVICE [-f]     put an empty device in its place
node grow NODE [--add DEVICE [-f]] [--json]   use what its device became larger
                                  by, or one more device
node add DEVICE [--role ROLE] [-f]   one more copy: master, slave, soft-slave,
                                  soft-master; or a cache
node remove|promote|demote NODE   take it out of the cluster, give or take its vote
snapshot create [NAME]            make one; also list, delete NAME..., hold NAME,
                                  release NAME, clone NAME LABEL, rollback NAME, policy, with the
                                  flags of anvilfs snapshot
scrub start [0..10]|pause|resume|stop|status [--json]   verify all copies
errors list [--all] [--json]|retry|clear [--all]        what was found bad
conflicts list [--json]|forget PATH     what merges left to be decided
bulkfree                          find space that nothing refers to any more
dedup start|add|step|stop         what anvilfs dedup does, in JSON
quota set|clear|show PATH, list, recount   what directory trees take, and may;
                                  flags as of anvilfs quota, PATH from the root
du PATH...                        what a tree takes, flags as of anvilfs du
pid                               of the serving process
`

// Status writes the content of status.json.
func (c *controller) Status(w io.Writer) error {
	m := c.report()
	m.Out-- // the call that asks
	return rawjson.Write(w, m, "  ")
}

// Quotas writes the content of quotas.json: what quota list --json prints, as of
// the last commit.
func (c *controller) Quotas(w io.Writer) error {
	list := slices.Clone(c.trees.trees())
	slices.SortFunc(list, func(a, b advice.Tree) int { return cmp.Compare(a.Path, b.Path) })
	return printQuotas(w, list, &quotaWords{json: true})
}

// Snapshots writes the content of snapshots.json.
func (c *controller) Snapshots(ctx context.Context, w io.Writer) error {
	list, err := c.snapshots(ctx, false)
	if err != nil {
		return err
	}
	p, err := c.pool.SnapshotPolicy(ctx)
	if err != nil {
		return err
	}
	return printSnapshotJSON(w, list, &p)
}

// heldTold is how long a deleted snapshot has to be in use until status says so:
// the kernel forgets what nobody uses by itself, if not at once.
const heldTold = 10 * time.Second

// report is the whole status at this instant.
func (c *controller) report() *mountStatus {
	m := &mountStatus{Status: c.pool.Status(), Integrity: c.care.report(), Now: time.Now(), Server: c.server}
	m.Nodes = c.seen.annotate(m.Nodes)
	m.Calls, m.Out = c.calls.Report()
	m.Server.metricsStatus = c.metrics.Load().status()
	for i := range m.Nodes {
		n := &m.Nodes[i]
		if n.State == cluster.NodeBranch && c.branches.waits(n.Name) {
			n.Next = "anvilfs node online MNT NODE merges it, anvilfs node discard MNT NODE gives it up"
		}
		first := m.Next == n.Name+": "+n.Next
		if n.Next = advice.Typed(n.Next, c.server.Dir, n.Name); first {
			m.Next = n.Name + ": " + n.Next
		}
	}
	m.Layout = c.layout.findings(&m.Status)
	if s := c.mount.Load(); s != nil {
		m.Held = s.HeldSnapshots(heldTold)
	}
	m.Quotas = advice.Filled(c.trees.trees())
	if m.Health != cluster.PoolReadOnly {
		m.ReadOnly = c.remounts.look()
	}
	return m
}

func (c *controller) status(words []string, w io.Writer) error {
	if len(words) > 0 && words[0] == "--json" {
		return c.Status(w)
	}
	printStatus(w, c.report(), c.server.Dir, false)
	return nil
}

// waits are what a mount can be waited for.
var waits = []string{cluster.WaitResync, cluster.WaitQuorum, cluster.WaitHealthy, cluster.WaitSnapshots, waitScrub}

const waitScrub = "scrub"

func (c *controller) wait(ctx context.Context, words []string) error {
	if len(words) == 0 || !slices.Contains(waits, words[0]) {
		return fmt.Errorf("wait for what: %s", strings.Join(waits, ", "))
	}
	if len(words) > 2 {
		return nothingMore("wait", words[2:])
	}
	if len(words) > 1 {
		d, err := time.ParseDuration(words[1])
		if err != nil {
			return fmt.Errorf("wait %s takes %s, not %q", words[0], flagTakes["duration"], words[1])
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	err := c.waitFor(ctx, words[0])
	if errors.Is(err, context.DeadlineExceeded) {
		var b strings.Builder
		printStatus(&b, c.report(), c.server.Dir, false)
		return fmt.Errorf("still not %s after %s:\n%s", words[0], words[1], b.String())
	}
	return err
}

func (c *controller) waitFor(ctx context.Context, what string) error {
	if what != waitScrub {
		return c.pool.Wait(ctx, what)
	}
	if c.care.scrub == nil {
		return errNoScrub
	}
	err := c.care.scrub.Wait(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("the scrub still runs: anvilfs scrub status MNT says how long it takes")
	}
	return err
}

func (c *controller) node(ctx context.Context, words []string, w io.Writer) error {
	if len(words) < 2 {
		return errors.New("node takes add, remove, offline, online, promote, demote, discard, grow or replace, and a node: anvilfs status MNT lists them")
	}
	verb, name, rest := words[0], words[1], words[2:]
	if verb == "grow" {
		if err := c.growNode(ctx, name, rest, w); err != nil {
			return c.aboutNode(verb, name, err)
		}
		return nil
	}
	if err := nodeWords(verb, rest); err != nil {
		return err
	}
	w = advice.Lines(w)
	switch {
	case verb == "add":
		name = c.likeOthers(name, "")
	case verb == "replace" && len(rest) > 0:
		rest[0] = c.likeOthers(rest[0], name)
	}
	was, others := c.pool.Status().Caches, c.pool.OthersOn(ctx, name)
	err := c.changeNode(ctx, verb, name, rest, w)
	if err != nil {
		return c.aboutNode(verb, name, err)
	}
	if now := c.pool.Status().Caches; cacheNamed(was, name) != nil || cacheNamed(now, name) != nil {
		sayCache(w, c.server.Dir, verb, name, cacheNamed(now, name))
		return nil
	}
	switch verb {
	case "remove":
		fmt.Fprintf(w, "%s is no member any more: leave it out of mounts from now on\n", name)
	case "add":
		fmt.Fprintf(w, "%s is a member: name it in mounts and fstab from now on\n", name)
	case "replace":
		fmt.Fprintf(w, "%s takes the place of %s once it is in sync: name it instead in mounts and fstab then\n", rest[0], name)
	}
	if len(others) > 0 && (verb == "remove" || verb == "replace") {
		fmt.Fprintf(w, "other filesystems on %s stay there, and are not copied: %s: keep it for them, or delete them\n", name, strings.Join(others, ", "))
	}
	st := c.pool.Status()
	for _, n := range st.Nodes {
		if n.Name == name && verb != "remove" || len(rest) > 0 && n.Name == rest[0] {
			fmt.Fprintln(w, describeNode(&n, c.server.Dir))
		}
	}
	if q := st.Quorum; verb != "offline" && verb != "online" && q.Masters > 2 && q.Masters%2 == 0 {
		fmt.Fprintf(w, "%d masters tolerate the loss of %d, as %d do: one more, or one less, is better\n",
			q.Masters, q.Masters-q.Need, q.Masters-1)
	} else if (verb == "remove" || verb == "demote") && q.Masters == 2 {
		fmt.Fprintln(w, "two masters are left, and both are needed for changes: a third would let one fail")
	}
	return nil
}

// aboutNode is an error of a command about a node, which is the one that commands in
// its text are about, too, unless it names another.
func (c *controller) aboutNode(verb, name string, err error) error {
	node := name
	if other := new(cluster.NodeError); errors.As(err, &other) {
		node = other.Node
	}
	return &typedError{fmt.Sprintf("node %s %s: %s", verb, name, advice.Typed(err.Error(), c.server.Dir, node)), err}
}

func (c *controller) changeNode(ctx context.Context, verb, name string, rest []string, w io.Writer) error {
	has := func(flag string) bool { return slices.Contains(rest, flag) }
	switch verb {
	case "offline":
		return c.pool.NodeOffline(ctx, name)
	case "online":
		err := c.pool.NodeOnline(ctx, name)
		c.branches.allow(name)
		c.care.retryNow()
		return err
	case "discard":
		if c.mayBranch(name) {
			return c.branches.discard(ctx, name, has("--force"), has("--all"), w)
		}
		return c.pool.NodeDiscard(ctx, name)
	case "remove":
		return c.pool.NodeRemove(ctx, name)
	case "promote":
		return c.pool.NodeSetRole(ctx, name, ondisk.PFSMaster)
	case "demote":
		return c.pool.NodeSetRole(ctx, name, ondisk.PFSSlave)
	case "add":
		role := ondisk.PFSMaster
		if i := slices.Index(rest, "--role"); i >= 0 && i+1 < len(rest) {
			var err error
			if role, err = parseRole(rest[i+1]); err != nil {
				return err
			}
		}
		m, err := c.newcomer(name, "")
		if err != nil {
			return err
		}
		return c.ownDevice(m.name, c.pool.NodeAdd(ctx, m.spec(false), role, has("-f")))
	case "replace":
		if len(rest) == 0 {
			return errors.New("the new device is missing")
		}
		m, err := c.newcomer(rest[0], name)
		if err != nil {
			return err
		}
		return c.ownDevice(m.name, c.pool.NodeReplace(ctx, name, m.spec(false), has("-f")))
	}
	return errors.New("there is no such command: add, remove, offline, online, promote, demote, discard, grow and replace")
}
