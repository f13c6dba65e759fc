package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A SnapshotReport is one snapshot as list shows it.
type SnapshotReport struct {
	Name    string       `json:"name"`
	Created time.Time    `json:"created"`
	Tid     string       `json:"tid"` // of the txg that made it; "" while no member has it
	Auto    bool         `json:"automatic"`
	Inodes  uint64       `json:"inodes"`
	Used    uint64       `json:"used_bytes"`   // of data it refers to, shared or not
	Unique  int64        `json:"unique_bytes"` // that go with it alone; -1 = not counted
	Holds   []HoldReport `json:"holds"`
	On      []string     `json:"on"`      // members that have it
	Missing []string     `json:"missing"` // attached members to which it is still to be copied
}

// A HoldReport is a hold that counts.
type HoldReport struct {
	Owner string     `json:"owner"`
	Since time.Time  `json:"since"`
	Until *time.Time `json:"until,omitempty"` // none: for good
}

// Snapshots lists the snapshots, oldest first. Counting what is unique to
// each reads the tables in which it differs from all others; without it the
// cost is that of the list alone.
func (p *Pool) Snapshots(ctx context.Context, unique bool) ([]SnapshotReport, error) {
	table, _, err := p.snapshotTable(ctx)
	if err != nil {
		return nil, err
	}
	now := p.now()
	reports := make([]SnapshotReport, len(table.Entries))
	for i := range table.Entries {
		reports[i] = table.Entries[i].report(now)
	}
	var tids = make([]ondisk.Tid, len(reports))
	var on counter
	for _, n := range p.engine.volumes() {
		own, infos, err := n.look(ctx)
		if err != nil {
			continue
		}
		have := make([]*chain.PFSInfo, len(reports))
		complete := true
		for i := range table.Entries {
			have[i] = table.Entries[i].On(infos, n.Fsid)
			complete = complete && have[i] != nil
			if e := &table.Entries[i]; have[i] == nil && n.InSync && !own.Has(e.Name, e.Clid) {
				continue // on its way, as to the slowest for a moment
			}
			reports[i].seen(n.Name, have[i], &tids[i])
		}
		if complete {
			on.offer(n, infos)
		}
	}
	if !unique || on.infos == nil {
		return reports, nil
	}
	of := make(map[string]int)
	for i := range table.Entries {
		of[table.Entries[i].Name] = i
	}
	counts, err := on.count(ctx, of, len(reports))
	if err != nil {
		return nil, err
	}
	for i := range counts {
		reports[i].Unique = counts[i]
	}
	return reports, nil
}

// A counter is the member on which is counted what is unique: of those that have all
// the snapshots the one whose PFS is newest, since one that is slower than the others
// lacks for a moment what a majority has.
type counter struct {
	n     nodeVolume
	infos []chain.PFSInfo // nil: there is none
	at    ondisk.Tid
}

// offer takes a member if it is a better one.
func (c *counter) offer(n nodeVolume, infos []chain.PFSInfo) {
	i := slices.IndexFunc(infos, func(p chain.PFSInfo) bool { return p.Label == n.Label })
	if i >= 0 && (c.infos == nil || infos[i].T > c.at) {
		c.n, c.infos, c.at = n, infos, infos[i].T
	}
}

func (c *counter) count(ctx context.Context, of map[string]int, groups int) ([]int64, error) {
	n := c.n
	n.Limit = uniquePatience
	return within(ctx, &n, func() ([]int64, error) { return countUnique(ctx, n.Vol, c.infos, of, groups) }, nil)
}

func (e *SnapshotEntry) report(now time.Time) SnapshotReport {
	r := SnapshotReport{Name: e.Name, Created: e.Created, Auto: e.Auto, Unique: -1, Holds: []HoldReport{}, On: []string{}, Missing: []string{}}
	for _, h := range e.Holds {
		if !h.ActiveAt(now) {
			continue
		}
		hr := HoldReport{Owner: h.Owner, Since: h.Since}
		if !h.Until.IsZero() {
			hr.Until = &h.Until
		}
		r.Holds = append(r.Holds, hr)
	}
	return r
}

// seen adds what one member knows; have is nil if it lacks the snapshot. A
// copy that was made later has a later tid: the first is the true one.
func (r *SnapshotReport) seen(member string, have *chain.PFSInfo, tid *ondisk.Tid) {
	if have == nil {
		r.Missing = append(r.Missing, member)
		return
	}
	r.On = append(r.On, member)
	if *tid == 0 || have.T < *tid {
		*tid = have.T
		r.Tid, r.Inodes, r.Used = have.T.String(), have.Inodes, have.DataBytes
	}
}

// uniquePatience bounds the counting of what is unique.
const uniquePatience = 10 * time.Minute

// UniqueTo counts what goes if all of those snapshots are deleted together, but
// nothing else; false: it cannot be known now.
func (p *Pool) UniqueTo(ctx context.Context, names []string) (bytes uint64, ok bool, err error) {
	table, _, err := p.snapshotTable(ctx)
	if err != nil {
		return 0, false, err
	}
	of := make(map[string]int)
	for _, name := range names {
		of[name] = 0
	}
	var on counter
	for _, n := range p.engine.volumes() {
		_, infos, err := n.look(ctx)
		complete := err == nil
		for i := range table.Entries {
			_, asked := of[table.Entries[i].Name]
			complete = complete && (!asked || table.Entries[i].On(infos, n.Fsid) != nil)
		}
		if complete {
			on.offer(n, infos)
		}
	}
	if on.infos == nil {
		return 0, false, nil
	}
	counts, err := on.count(ctx, of, 1)
	if err != nil {
		return 0, false, err
	}
	return uint64(max(counts[0], 0)), counts[0] >= 0, nil
}

// countUnique counts on a volume what groups of PFSs have for themselves; of is
// the group of a label, others are of none. -1 where it cannot be known.
func countUnique(ctx context.Context, vol *chain.Volume, infos []chain.PFSInfo, of map[string]int, groups int) ([]int64, error) {
	counts := slices.Repeat([]int64{-1}, groups)
	var views []*chain.View
	defer func() {
		for _, v := range views {
			v.Release()
		}
	}()
	var groupOf []int
	for i := range infos {
		v, err := vol.View(ctx, infos[i].Label)
		if err != nil {
			return counts, ctx.Err() // gone, or damaged: nothing can be said
		}
		views = append(views, v)
		g, asked := of[infos[i].Label]
		if !asked {
			g = -1
		}
		groupOf = append(groupOf, g)
	}
	found, err := chain.UniqueBytes(ctx, views, groupOf, groups)
	for i := range found {
		if err == nil && found[i].Err == nil {
			counts[i] = int64(found[i].Bytes)
		}
	}
	return counts, err
}
