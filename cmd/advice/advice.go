package advice

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
	resync "github.com/anvilfs/anvilfs/sync"
)

// A Level is how much a piece of advice matters.
type Level int

// The levels, best first.
const (
	Note     Level = iota // good to know
	Warning               // works, something needs care
	Critical              // changes do not become durable
)

// Advice is one thing that is wrong, and what to do about it.
type Advice struct {
	Level Level
	What  string // what is wrong
	Risk  string // what can be lost, and when; "" = nothing
	Soon  string // what happens by itself; "" = nothing
	Do    string // a command; "" = none helps
}

// lowSpace is the part of the space below which it is short.
const lowSpace = 20

// For is the advice on a mount at dir, worst first. known is what is known of
// its copies beside the status; size prints bytes.
func For(st *cluster.Status, known *Integrity, dir string, size func(uint64) string) []Advice {
	a := &adviser{st: st, mnt: dir, dir: quote(dir), size: size}
	if st.Health == cluster.PoolStalled {
		a.stalled()
	}
	switch {
	case st.ShutDown:
		a.add(Critical, "The filesystem was shut down by an ioctl: nothing is written any more.",
			"What was not synced before is lost; what was synced is safe.", "", "anvilfs umount "+a.dir)
	case st.CommitError != "" && st.Health != cluster.PoolStalled:
		a.add(Critical, "The last commit failed: "+st.CommitError+".", a.dirtyRisk(), "It is tried again.", "anvilfs sync "+a.dir)
	}
	for i := range st.Nodes {
		a.node(&st.Nodes[i])
	}
	a.integrity(known)
	a.space()
	a.conflicts()
	a.copies()
	slices.SortStableFunc(a.list, func(x, y Advice) int { return cmp.Compare(y.Level, x.Level) })
	return a.list
}

// Worst is the level of a list; ok is false if it has nothing but notes.
func Worst(list []Advice) (l Level, ok bool) {
	if len(list) == 0 || list[0].Level == Note {
		return Note, false
	}
	return list[0].Level, true
}

type adviser struct {
	st   *cluster.Status
	mnt  string
	dir  string // mnt, for a shell
	size func(uint64) string
	list []Advice
}

func (a *adviser) add(l Level, what, risk, soon, do string) {
	what, soon = Typed(what, a.mnt, ""), Typed(soon, a.mnt, "")
	a.list = append(a.list, Advice{l, what, risk, soon, do})
}

// stalled is no majority of masters.
func (a *adviser) stalled() {
	q := a.st.Quorum
	what := fmt.Sprintf("No majority: %d of %d masters are in sync, %d are needed.", q.InSync, q.Masters, q.Need)
	a.add(Critical, what, a.dirtyRisk(), "Changes go on by themselves once enough masters are back.", "")
}

// dirtyRisk is what a failure of this machine would cost now.
func (a *adviser) dirtyRisk() string {
	d := a.st.Dirty
	if d.Bytes <= 0 && d.Leaves == 0 {
		return "Nothing waits to be written; what was synced is safe."
	}
	return fmt.Sprintf("%s of changes are in memory only and are lost if this machine fails now; what was synced is safe.",
		a.size(uint64(max(d.Bytes, 0))))
}

// node is advice on a node that is not as it should be.
func (a *adviser) node(n *cluster.NodeStatus) {
	name := quote(n.Name)
	command := func(verb, rest string) string { return "anvilfs node " + verb + " " + a.dir + " " + name + rest }
	replaced := n.Role == ondisk.PFSNone.String() // or it was never opened, and nobody knows which member it is
	replace := ""                                 // a change of members takes a majority
	if a.st.Health != cluster.PoolStalled && !replaced {
		replace = command("replace", " NEW-DEVICE")
	}
	why := ""
	if n.Error != "" {
		why = ": " + n.Error
	}
	if n.Soft() && a.soft(n, why, command) {
		return
	}
	switch n.State {
	case cluster.NodeInSync, cluster.NodeReadOnly:
		if err, noRoom := stuck(n.Resync); noRoom && runOf(n.Resync).Mode == string(resync.ModeSnapshots) {
			a.add(Warning, n.Name+" has no room for all snapshots: "+err+".", "Those that it lacks are lost with the other copies.",
				"It is tried again from time to time.", more(n, command))
		}
	case cluster.NodeBehind, cluster.NodeResync:
		if err, noRoom := stuck(n.Resync); err != "" {
			a.add(Warning, n.Name+" could not be brought in sync: "+err+".", a.oneLess(n), "It is tried again from time to time.", a.unstick(n, noRoom, command))
			return
		}
		a.add(Warning, n.Name+" is being brought in sync"+why+".", a.oneLess(n), "It will be in sync without help.", "anvilfs wait resync "+a.dir)
	case cluster.NodeOffline:
		if replaced {
			a.add(Note, n.Name+" is no member any more.", "", "", "")
			return
		}
		a.add(Warning, n.Name+" was taken offline.", a.oneLess(n), "", command("online", ""))
	case cluster.NodeFull:
		if n.Unreadable {
			a.add(Warning, n.Name+" is not written any more: "+n.Error+".", a.oneLess(n), "", anew(n, command))
			return
		}
		a.add(Warning, n.Name+" is full and is not written any more.", a.oneLess(n), "Space that nothing uses is looked for.", more(n, command))
	case cluster.NodeMissing:
		if a.st.Health == cluster.PoolReadOnly {
			a.add(Note, n.Name+" belongs to the filesystem and was not given to the mount"+seen(n)+".", "", "", "")
			return
		}
		what := n.Name + " belongs to the filesystem and was not given to the mount" + seen(n) + "."
		if replace == "" {
			a.add(Warning, what, "", "It counts again once a mount is given it.", "")
			return
		}
		a.add(Warning, what, a.oneLess(n), "", replace+"   (or mount again with it)")
	case cluster.NodeHung:
		a.add(Warning, n.Name+" does not answer"+why+".", a.oneLess(n), "It is used again once its requests return.", replace)
	case cluster.NodeFailed:
		if n.Next != "" {
			a.add(Warning, n.Name+" has failed"+why+".", a.oneLess(n), "It is as it was: "+n.Next+".", "")
			return
		}
		a.add(Warning, n.Name+" has failed"+why+".", a.oneLess(n), "It is opened again from time to time: check its cable and disk.", replace)
	case cluster.NodeForeign:
		a.add(Warning, n.Name+" was changed by another system"+why+".", a.oneLess(n), "", command("discard", ""))
	case cluster.NodeTainted:
		a.add(Warning, n.Name+" lost writes that it had acknowledged"+why+".", a.oneLess(n),
			"It is copied anew from the others; its disk is not to be trusted.", replace)
	default:
		a.add(Warning, n.Name+" is "+string(n.State)+why+".", a.oneLess(n), "", "")
	}
}

// seen is where a missing node was, if that is known. It may be elsewhere now.
func seen(n *cluster.NodeStatus) string {
	if n.LastSeen == "" {
		return ""
	}
	return "; it was last seen as " + n.LastSeen
}

// more is the command by which a node gets more space. A device that another
// follows has some GiBs.
func more(n *cluster.NodeStatus, command func(verb, rest string) string) string {
	if n.Total < ondisk.ZoneSize {
		return command("replace", " LARGER-DEVICE")
	}
	return command("grow", " --add DEVICE") + "   (or " + command("replace", " LARGER-DEVICE") + ")"
}

// soft is advice on a soft node, which may be away; false: it is in a state of
// which there is the same to say as of others.
func (a *adviser) soft(n *cluster.NodeStatus, why string, command func(verb, rest string) string) bool {
	switch n.State {
	case cluster.NodeOffline:
		a.add(Note, n.Name+" was taken offline: it is a copy that may be away.", "", "It is brought up to date when it is back.", command("online", ""))
	case cluster.NodeMissing:
		a.add(Note, n.Name+" is away: it is a copy that may be"+seen(n)+".", "", "It is brought up to date when a mount is given it.", "")
	case cluster.NodeFailed:
		a.add(Note, n.Name+" is away"+why+".", "", "It is looked for from time to time.", "")
	case cluster.NodeBranch:
		if n.Next != "" {
			a.add(Note, n.Name+" was changed while it was away: it waits to be merged.", "", "",
				command("online", "   (merges; "+command("discard", "")+" gives it up)"))
			break
		}
		a.add(Note, n.Name+" was changed while it was away: that is being merged.", "", "It is brought up to date afterwards.", "")
	case cluster.NodeBehind, cluster.NodeResync:
		if err, noRoom := stuck(n.Resync); err != "" {
			a.add(Note, n.Name+" could not be brought up to date: "+err+".", "", "It is tried again from time to time.", a.unstick(n, noRoom, command))
			break
		}
		a.add(Note, n.Name+" is being brought up to date"+why+".", "", "", "anvilfs wait resync "+a.dir)
	default:
		return false
	}
	return true
}

// stuck is why the last attempt to bring a node in sync failed, "" if none did,
// and whether there was no room on it: that stays true while the next one has not
// ended. A report comes as it is, or as JSON says it.
func stuck(report any) (why string, noRoom bool) {
	r := runOf(report)
	if r.State != string(resync.Failed) {
		return r.Before, r.Before != ""
	}
	return r.Error, r.NoRoom
}

// A run is what matters here of a report.
type run struct {
	State, Mode, Error string
	NoRoom             bool   `json:"no_room"`
	Before             string `json:"no_room_before"`
}

func runOf(report any) (r run) {
	if b, err := rawjson.Marshal(report); err != nil || rawjson.Unmarshal(b, &r) != nil {
		return run{}
	}
	return r
}

// anew are the commands by which a node is made anew on its own device.
func anew(n *cluster.NodeStatus, command func(verb, rest string) string) string {
	return command("offline", "") + " && " + command("replace -f", " "+quote(n.Name)) + "   (copies it anew)"
}

// unstick is what helps: if the source is damaged where no other copy is right,
// or there is no room. A node that is as large as others had room, and what is in
// use on it cannot be told any more; or what is there now fits on it, but for what
// it still has of before: it is made anew on its own device.
func (a *adviser) unstick(n *cluster.NodeStatus, noRoom bool, command func(verb, rest string) string) string {
	fits := func(o cluster.NodeStatus) bool {
		used := o.Total - min(o.Total, o.Free)
		return o.State == cluster.NodeInSync && (o.Total <= n.Total || used+used/4 <= n.Total)
	}
	switch {
	case noRoom && slices.ContainsFunc(a.st.Nodes, fits):
		return anew(n, command)
	case noRoom:
		return more(n, command)
	}
	return "anvilfs scrub start --wait " + a.dir + "   (anvilfs errors list " + a.dir + " names files that no copy has right)"
}

// oneLess is what can happen while a master is away.
func (a *adviser) oneLess(n *cluster.NodeStatus) string {
	q := a.st.Quorum
	if n.Role != ondisk.PFSMaster.String() || a.st.Health != cluster.PoolDegraded {
		return ""
	}
	switch spare := q.InSync - q.Need; {
	case spare <= 0:
		return "If one more master fails, changes stop."
	case spare == 1:
		return "One more master may fail before changes stop."
	default:
		return fmt.Sprintf("%d more masters may fail before changes stop.", spare)
	}
}

func (a *adviser) space() {
	s := a.st.Space
	if s.Total == 0 || s.Avail >= s.Total/lowSpace || a.st.Health == cluster.PoolReadOnly {
		return
	}
	risk := "Writers get ENOSPC when it is used up; removing files still works."
	if s.Avail == 0 {
		risk = "Writers get ENOSPC; removing files still works."
	}
	soon := ""
	if s.Pending > 0 {
		soon = a.size(s.Pending) + " more come free with the next commits."
	}
	if s.Total >= ondisk.ZoneSize {
		soon = strings.TrimPrefix(soon+" Nodes can get one more device each: anvilfs node grow "+a.dir+" NODE --add DEVICE.", " ")
	}
	a.add(Warning, fmt.Sprintf("Space is short: %s of %s are left.", a.size(s.Avail), a.size(s.Total)), risk, soon,
		"anvilfs snapshot list "+a.dir+"   (what snapshots hold; then anvilfs bulkfree "+a.dir+" finds what nothing holds)")
}

// copies says what the number of masters means, where nothing is wrong.
func (a *adviser) copies() {
	switch q := a.st.Quorum; {
	case a.st.Health != cluster.PoolHealthy:
	case q.Masters == 2:
		a.add(Note, "Both masters are needed for changes: a third would let one fail.", "", "", "anvilfs node add "+a.dir+" DEVICE")
	case q.Masters == 1 && len(a.st.Nodes) == 1:
		a.add(Note, "There is one copy: damage is found, and cannot be repaired.", "", "", "")
	}
}

// conflicts is advice on what merges left.
func (a *adviser) conflicts() {
	switch n := a.st.Conflicts; {
	case n == 1:
		a.add(Note, "A file was changed on both sides of a merge: both versions are kept.", "", "", "anvilfs conflicts list "+a.dir)
	case n > 1:
		a.add(Note, fmt.Sprintf("%d files were changed on both sides of a merge: both versions are kept.", n), "", "", "anvilfs conflicts list "+a.dir)
	}
}
