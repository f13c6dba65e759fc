package events

import (
	"log/slog"
	"strconv"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/sync/scrub"
)

// What happened, besides the states of nodes, which are their own words.
const (
	Mounted      = "mounted"
	Unmounted    = "unmounted"
	QuorumLost   = "quorum lost"
	QuorumHeld   = "quorum held"
	Damage       = "damage"        // damaged blocks were read; Count says how many so far
	Repaired     = "repaired"      // all damaged blocks of the node are rewritten
	SpaceLow     = "space low"     // less than a twentieth is left
	SpaceOK      = "space ok"      // more again
	CommitFailed = "commit failed" // it is tried again
	CommitOK     = "commit ok"
	Conflicts    = "conflicts"    // a merge left some to be decided; Count says how many there are
	ScrubDone    = "scrub done"   // Count says how much could not be repaired
	ScrubFailed  = "scrub failed" // Error says why
	Unrepaired   = "unrepaired"   // Count places in files are bad; more than before
	AllRepaired  = "all repaired" // none any more
	QuotaNear    = "quota near"   // Path takes nine tenths of a limit; Count says how many per cent
	QuotaFull    = "quota full"   // writers in Path are refused
	Grown        = "grown"        // the node has Count bytes more
	QuotaOK      = "quota ok"     // there is room again in Path, or no limit any more
)

// An Event is one thing that happened.
type Event struct {
	Time  time.Time
	What  string
	Node  string // "" = the mount as a whole
	Path  string // of a directory, from the mount point; "" = of none
	Count uint64 // of damaged blocks; of per cent; of bytes
	Error string
	Bad   bool // worth a warning
}

// A Mount is what events are about.
type Mount struct {
	Label  string
	Dir    string
	Source string
}

// Env is the event as the environment of a program.
func (e *Event) Env(m *Mount) []string {
	level := "info"
	if e.Bad {
		level = "warning"
	}
	return []string{
		"ANVILFS_EVENT=" + e.What,
		"ANVILFS_LEVEL=" + level,
		"ANVILFS_TIME=" + e.Time.UTC().Format(time.RFC3339Nano),
		"ANVILFS_NODE=" + e.Node,
		"ANVILFS_PATH=" + e.Path,
		"ANVILFS_ERROR=" + e.Error,
		"ANVILFS_COUNT=" + strconv.FormatUint(e.Count, 10),
		"ANVILFS_LABEL=" + m.Label,
		"ANVILFS_MOUNT=" + m.Dir,
		"ANVILFS_SOURCE=" + m.Source,
	}
}

// log writes the event as one structured line.
func (e *Event) log(log *slog.Logger, m *Mount) {
	attrs := []any{"event", e.What, "label", m.Label, "mount", m.Dir}
	if e.Node != "" {
		attrs = append(attrs, "node", e.Node)
	}
	if e.Path != "" {
		attrs = append(attrs, "path", e.Path)
	}
	if e.Count > 0 {
		attrs = append(attrs, "count", e.Count)
	}
	if e.Error != "" {
		attrs = append(attrs, "err", e.Error)
	}
	if e.Bad {
		log.Warn("event", attrs...)
		return
	}
	log.Info("event", attrs...)
}

// good are the states and words that call for nobody.
var good = map[string]bool{
	string(cluster.NodeInSync): true, string(cluster.NodeReadOnly): true, string(cluster.NodeBehind): true,
	string(cluster.NodeResync): true, string(cluster.NodeOffline): true, string(cluster.NodeBranch): true, QuorumHeld: true,
	string(cluster.CacheOn): true, string(cluster.CacheOffline): true, string(cluster.CacheIdle): true,
	Grown: true,
}

// lowSpace is the part of the space below which it is low.
const lowSpace = 20

// compare finds what two looks at the status tell that the pool does not.
func compare(old, now *cluster.Status, at time.Time) []Event {
	var list []Event
	add := func(e Event) {
		e.Time = at
		list = append(list, e)
	}
	before := make(map[string]*cluster.NodeStatus)
	for i := range old.Nodes {
		before[old.Nodes[i].Name] = &old.Nodes[i]
	}
	for i := range now.Nodes {
		n, o := &now.Nodes[i], before[now.Nodes[i].Name]
		if o == nil {
			o = new(cluster.NodeStatus)
		}
		switch {
		case n.Bad > o.Bad:
			add(Event{What: Damage, Node: n.Name, Count: n.Bad, Bad: true})
		case n.Bad > 0 && n.Repaired >= n.Bad && o.Repaired < o.Bad:
			add(Event{What: Repaired, Node: n.Name, Count: n.Repaired})
		}
	}
	if now.Conflicts > old.Conflicts {
		add(Event{What: Conflicts, Count: uint64(now.Conflicts)})
	}
	if was, is := low(old), low(now); is != was {
		if is {
			add(Event{What: SpaceLow, Bad: true})
		} else {
			add(Event{What: SpaceOK})
		}
	}
	switch {
	case now.CommitError != "" && old.CommitError == "":
		add(Event{What: CommitFailed, Error: now.CommitError, Bad: true})
	case now.CommitError == "" && old.CommitError != "":
		add(Event{What: CommitOK})
	}
	return list
}

func low(st *cluster.Status) bool {
	return st.Space.Total > 0 && st.Space.Avail < st.Space.Total/lowSpace
}

// compareIntegrity finds what two looks at the care for the copies tell.
func compareIntegrity(old, now *advice.Integrity, at time.Time) []Event {
	var list []Event
	add := func(e Event) {
		e.Time = at
		list = append(list, e)
	}
	var before, is scrub.Report
	if old.Scrub != nil {
		before = *old.Scrub
	}
	if now.Scrub != nil {
		is = *now.Scrub
	}
	if ended := is.Ended; !ended.IsZero() && !ended.Equal(before.Ended) {
		switch is.Phase {
		case scrub.Done:
			add(Event{What: ScrubDone, Count: uint64(is.Unrepaired), Bad: is.Unrepaired > 0})
		case scrub.Failed:
			add(Event{What: ScrubFailed, Error: is.Err, Bad: true})
		}
	}
	var had, has int64
	if old.Errors != nil {
		had = old.Errors.Bad
	}
	if now.Errors != nil {
		has = now.Errors.Bad
	}
	switch {
	case has > had:
		add(Event{What: Unrepaired, Count: uint64(has), Bad: true})
	case has == 0 && had > 0:
		add(Event{What: AllRepaired})
	}
	return list
}
