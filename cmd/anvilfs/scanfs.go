package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A foundFS is a filesystem and the copies of it that were found.
type foundFS struct {
	Label   string      `json:"label"`
	ID      string      `json:"id"`     // of the cluster
	Source  string      `json:"source"` // for mount: all members that are here
	Quorum  bool        `json:"quorum"` // they are a majority of the masters
	Nodes   []foundNode `json:"nodes"`
	Missing []foundNode `json:"missing,omitempty"` // members that are not here
	newest  cluster.Holding
}

// A foundNode is one copy.
type foundNode struct {
	Name   string     `json:"name"` // for a missing one where it was seen last, "" if it was not
	Fsid   string     `json:"fsid"`
	Role   string     `json:"role"`
	T      ondisk.Tid `json:"tid"`
	When   *time.Time `json:"at,omitempty"` // when it came to that; nil: not noted
	State  string     `json:"state"`
	Member bool       `json:"member"` // false: a cache, or the cluster does not know it any more
}

// filesystems puts together what members hold. seen says where a node of a
// cluster was last.
func filesystems(members []foundMember, seen func(clid, fsid string) string) (list []*foundFS) {
	type copyOf struct {
		name string
		cluster.Holding
	}
	copies := make(map[ondisk.UUID][]copyOf)
	for _, m := range members {
		for _, h := range m.holds {
			copies[h.Clid] = append(copies[h.Clid], copyOf{m.name, h})
		}
	}
	for id, all := range copies {
		f := &foundFS{ID: id.String()}
		for _, c := range all {
			if newer(&c.Holding, &f.newest) {
				f.newest = c.Holding
			}
		}
		if f.newest.Label == "" { // no copy counts: as good as any
			f.newest = all[max(0, slices.IndexFunc(all, func(c copyOf) bool { return c.Role != ondisk.PFSCache }))].Holding
		}
		f.Label = f.newest.Label
		here := make(map[ondisk.UUID]bool)
		for _, c := range all {
			n := f.judge(c.name, &c.Holding)
			f.Nodes = append(f.Nodes, n)
			if n.Member && c.Why == "" {
				here[c.Fsid] = true
			}
		}
		f.complete(here, seen)
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b *foundFS) int { return cmp.Or(strings.Compare(a.Label, b.Label), strings.Compare(a.ID, b.ID)) })
	return list
}

// newer reports whether a knows the cluster better than b. The set of members
// comes first: a soft master that was written while it was away is far ahead, and
// knows nothing of what became of the others.
func newer(a, b *cluster.Holding) bool {
	if a.Charter == nil || a.Why != "" {
		return false
	}
	if b.Charter == nil {
		return true
	}
	return cmp.Or(cmp.Compare(a.Charter.Config.Version, b.Charter.Config.Version), cmp.Compare(a.T, b.T)) > 0
}

// judge is what a copy is, measured by the newest.
func (f *foundFS) judge(name string, h *cluster.Holding) foundNode {
	n := foundNode{Name: name, Fsid: h.Fsid.String(), Role: h.Role.String(), T: h.T, Member: true}
	if !h.When.IsZero() {
		n.When = &h.When
	}
	cache := h.Role == ondisk.PFSCache
	switch {
	case cache:
		n.Member = false
	case f.newest.Charter != nil:
		_, n.Member = f.newest.Charter.Config.Member(h.Fsid)
	}
	switch {
	case cache: // in no configuration, and always as new as it can be
		n.State = "a cache, used by a mount that is given cache=" + n.Name
	case !n.Member:
		n.State = "no member any more"
	case h.Why != "":
		n.State = h.Why
	case h.T == 0:
		n.State = "nothing was copied to it yet"
	case h.T < f.newest.T:
		n.State = "behind"
	case h.T > f.newest.T:
		n.State = "changed while it was away"
	default:
		n.State = "newest"
	}
	return n
}

// complete says what is not here, and how to mount what is.
func (f *foundFS) complete(here map[ondisk.UUID]bool, seen func(clid, fsid string) string) {
	slices.SortFunc(f.Nodes, func(a, b foundNode) int { return compareNames(a.Name, b.Name) })
	var names []string
	for _, n := range f.Nodes {
		if n.Member {
			names = append(names, n.Name)
		}
	}
	f.Source = strings.Join(names, ",") + "@" + escapeLabel(f.Label)
	law := f.newest.Charter
	if law == nil {
		f.Quorum = true // of one copy alone
		return
	}
	f.Quorum = law.Config.HasQuorum(func(id ondisk.UUID) bool { return here[id] })
	for _, m := range slices.Concat(law.Config.Members, law.Config.Joint) {
		id := m.Fsid.String()
		same := func(n foundNode) bool { return n.Fsid == id }
		if slices.ContainsFunc(f.Nodes, same) || slices.ContainsFunc(f.Missing, same) {
			continue
		}
		f.Missing = append(f.Missing, foundNode{Name: seen(f.ID, id), Fsid: id, Role: m.Role.String(), State: "not here", Member: true})
	}
}

// compareNames puts names in the order in which people count: loop8 before loop10.
func compareNames(a, b string) int {
	for x, y := a, b; x != "" && y != ""; {
		n, m := digits(x), digits(y)
		if n == 0 || m == 0 {
			if x[0] != y[0] {
				return cmp.Compare(x[0], y[0])
			}
			x, y = x[1:], y[1:]
			continue
		}
		u, v := strings.TrimLeft(x[:n], "0"), strings.TrimLeft(y[:m], "0")
		if c := cmp.Or(cmp.Compare(len(u), len(v)), strings.Compare(u, v)); c != 0 {
			return c
		}
		x, y = x[n:], y[m:]
	}
	return strings.Compare(a, b)
}

// digits is how many digits s begins with.
func digits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }

func escapeLabel(label string) string {
	return strings.NewReplacer(`\`, `\\`, "@", `\@`).Replace(label)
}

// members reports whether any of what is here is a member still. Devices that were
// replaced or removed remain, also while the others are mounted.
func (f *foundFS) members() bool {
	return slices.ContainsFunc(f.Nodes, func(n foundNode) bool { return n.Member })
}

// headline says in one line what can be done with it.
func (f *foundFS) headline() string {
	copies := 0
	for _, n := range f.Nodes {
		if n.Role != ondisk.PFSCache.String() {
			copies++
		}
	}
	switch {
	case copies == 0:
		return "nothing but a cache of it is here"
	case !f.members():
		return "what is here is of no use to it any more"
	case f.newest.Charter == nil && copies == 1:
		return "a filesystem of one copy"
	case f.newest.Charter == nil:
		return fmt.Sprintf("%d copies without a common state", copies)
	}
	bad := 0
	for _, n := range f.Nodes {
		if n.Member && n.State != "newest" && n.State != "behind" {
			bad++
		}
	}
	lacks := len(f.Missing)
	var text string
	switch {
	case lacks == 0 && bad == 0:
		return "all members are here"
	case lacks == 0:
		text = fmt.Sprintf("all members are here, %d of them with a fault", bad)
	case lacks == 1:
		text = "one member is not here"
	default:
		text = fmt.Sprintf("%d members are not here", lacks)
	}
	if f.Quorum {
		return text + ": what is here is enough"
	}
	return text + ": no majority of the masters is here, so changes would wait for more"
}
