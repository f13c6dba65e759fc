package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
	"github.com/anvilfs/anvilfs/sync/scrub"
)

// sizes prints bytes for people, or exactly.
func sizes(exact bool) func(uint64) string {
	if exact {
		return func(n uint64) string { return fmt.Sprint(n) }
	}
	return human
}

// printStatus is the status for people, of a mount at dir.
func printStatus(w io.Writer, m *mountStatus, dir string, exact bool) {
	w = advice.Lines(w)
	size, st := sizes(exact), &m.Status
	fmt.Fprintf(w, "  state   %s%s\n", m.state(), quorumWords(st))
	printAdvice(w, m.advice(dir, size), advice.Note)
	if line := scrubWords(m.Scrub); line != "" {
		fmt.Fprintf(w, "  scrub   %s\n", line)
	}
	if st.Branch != nil {
		fmt.Fprintf(w, "  branch  %s\n", branchWords(st.Branch))
	}
	if st.Shown != nil {
		fmt.Fprintf(w, "  shown   %s\n", shownWords(st.Shown))
	}
	fmt.Fprintf(w, "  space   %s free of %s", size(st.Space.Avail), size(st.Space.Total))
	if st.Space.Pending > 0 {
		fmt.Fprintf(w, ", %s more in a moment", size(st.Space.Pending))
	}
	fmt.Fprintf(w, "\n  tid     %s", st.Committed)
	if left := st.Dirty.Bytes - st.Dirty.Logged; left > 0 || st.Dirty.Leaves > 0 {
		fmt.Fprintf(w, ", %s not yet written", size(uint64(max(left, 0))))
	}
	if st.Dirty.Logged > 0 {
		fmt.Fprintf(w, ", %s in the intent log", size(uint64(st.Dirty.Logged)))
	}
	fmt.Fprintln(w)
	printNodes(w, st, dir, size)
}

// advice is what to say of the mount, worst first.
func (m *mountStatus) advice(dir string, size func(uint64) string) []advice.Advice {
	return advice.Join(advice.For(&m.Status, &m.Integrity, dir, size), advice.Trees(m.Quotas, dir, size), advice.Held(m.Held), layoutAdvice(m),
		m.ReadOnly.advice(dir), m.Server.metricsStatus.advice(dir))
}

// state is the health in a word, or that the mount is read-only if that is all
// there is to say.
func (m *mountStatus) state() cluster.Health {
	if m.ReadOnly != nil && m.Health == cluster.PoolHealthy {
		return cluster.PoolReadOnly
	}
	return m.Health
}

// scrubWords are a scrub that is under way, in one line.
func scrubWords(r *scrub.Report) string {
	if r == nil || r.Phase != scrub.Verifying && r.Phase != scrub.Comparing && r.Phase != scrub.Paused {
		return ""
	}
	line := string(r.Phase)
	if r.BytesTotal > 0 {
		line += fmt.Sprintf(", %d%%", min(100, 100*r.Bytes/r.BytesTotal))
	}
	if r.ETA >= 0 && r.Phase == scrub.Verifying {
		line += fmt.Sprintf(", %s to go", (time.Duration(r.ETA) * time.Second).Round(time.Second))
	}
	return line + fmt.Sprintf("; %d bad, %d differing, %d not repaired", r.Bad, r.Differing, r.Unrepaired)
}

// printAdvice prints what is at least that bad, the worst first.
func printAdvice(w io.Writer, list []advice.Advice, least advice.Level) {
	for _, a := range list {
		word := "wrong"
		if a.Level == advice.Note {
			word = "note"
		}
		if a.Level < least {
			continue
		}
		for _, line := range []struct{ word, text string }{{word, a.What}, {"risk", a.Risk}, {"soon", a.Soon}, {"type", a.Do}} {
			if line.text != "" {
				fmt.Fprintf(w, "  %-7s %s\n", line.word, advice.Printable(line.text))
			}
		}
	}
}

func printNodes(w io.Writer, st *cluster.Status, dir string, size func(uint64) string) {
	t := newTable("  NODE", "ROLE", "STATE", "TID", "FREE", "BAD/FIXED")
	for i := range st.Nodes {
		n := &st.Nodes[i]
		state := string(n.State)
		if n.Focus {
			state += " *"
		}
		free := "-" // not known of one that is not open
		if n.Total > 0 {
			free = size(n.Free)
		}
		t.row("  "+n.Name, n.Role, state, n.T, free, fmt.Sprintf("%d/%d", n.Bad, n.Repaired))
	}
	t.print(w)
	for i := range st.Nodes {
		n := &st.Nodes[i]
		if line := resyncWords(n.Resync); line != "" && n.Total > 0 { // else it ended with the node
			fmt.Fprintf(w, "  %s: %s\n", n.Name, line)
		}
	}
	printCaches(w, st.Caches, dir, size)
}

// branchWords say what a branch is.
func branchWords(b *cluster.BranchStatus) string {
	return fmt.Sprintf("away from cluster %s since %s, tid %s: changes are merged when it is back",
		b.Cluster, b.Since.Local().Format(time.DateTime), b.Base)
}

// shownWords say of which time a copy is that no majority stands behind.
func shownWords(s *cluster.ShownStatus) string {
	at := "at a time that was not noted"
	if !s.Time.IsZero() {
		at = s.Time.Local().Format(time.DateTime)
	}
	return fmt.Sprintf("%s, as of tid %s, %s; masters may have newer changes", s.Node, s.T, at)
}

func quorumWords(st *cluster.Status) string {
	q := st.Quorum
	if q.Masters < 2 || st.Health == cluster.PoolReadOnly {
		return ""
	}
	held := "a majority holds"
	if !q.Held {
		held = "no majority"
	}
	return fmt.Sprintf(": %s (%d of %d masters in sync, %d needed)", held, q.InSync, q.Masters, q.Need)
}

// describeNode is a node of the mount at dir in one line.
func describeNode(n *cluster.NodeStatus, dir string) string {
	s := fmt.Sprintf("%s is %s", n.Name, n.State)
	if n.Error != "" {
		s += ": " + n.Error
	}
	if n.LastSeen != "" {
		s += ", last seen as " + n.LastSeen
	}
	if n.Next != "" {
		s += " (" + advice.Typed(n.Next, dir, n.Name) + ")"
	}
	return s
}

// resyncWords is a resync's report in one line. Behind the control file it
// is whatever JSON says; it is read back by its names.
func resyncWords(report any) string {
	if report == nil {
		return ""
	}
	b, err := rawjson.Marshal(report)
	if err != nil {
		return ""
	}
	var r struct {
		State      string  `json:"state"`
		Err        string  `json:"error"`
		Path       string  `json:"path"`
		BytesDone  int64   `json:"bytes_done"`
		BytesLeft  int64   `json:"bytes_left"`
		LeavesDone int64   `json:"leaves_done"`
		Rate       float64 `json:"bytes_per_second"`
		ETA        float64 `json:"eta_seconds"`
		Round      int     `json:"round"`

		Kind      string `json:"kind"` // "merge": what follows
		Items     int    `json:"items"`
		Done      int    `json:"items_done"`
		Applied   int    `json:"applied"`
		Conflicts int    `json:"conflicts"`
	}
	if rawjson.Unmarshal(b, &r) != nil || r.State == "" {
		return ""
	}
	if r.Kind == "merge" {
		return mergeWords(r.State, r.Items, r.Done, r.Applied, r.Conflicts, r.Err)
	}
	parts := []string{"resync " + r.State}
	if r.LeavesDone > 0 {
		parts = append(parts, fmt.Sprintf("%s in %d changes copied", human(uint64(max(r.BytesDone, 0))), r.LeavesDone))
	}
	if r.BytesLeft > 0 {
		parts = append(parts, fmt.Sprintf("about %s left", human(uint64(r.BytesLeft))))
	}
	if r.Rate > 0 && r.BytesLeft > 0 {
		parts = append(parts, fmt.Sprintf("%s/s, %s to go", human(uint64(r.Rate)), time.Duration(r.ETA*float64(time.Second)).Round(time.Second)))
	}
	if r.Path != "" {
		parts = append(parts, "at "+r.Path)
	}
	if r.Err != "" {
		parts = append(parts, r.Err)
	}
	return strings.Join(parts, ", ")
}

// mergeWords is a merge's report in one line.
func mergeWords(state string, items, done, applied, conflicts int, err string) string {
	s := fmt.Sprintf("merge %s", state)
	if items > 0 {
		s += fmt.Sprintf(", %d of %d items, %d changes, %d conflicts", done, items, applied, conflicts)
	}
	if err != "" {
		s += ", " + err
	}
	return s
}
