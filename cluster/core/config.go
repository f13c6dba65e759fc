package core

import (
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A Member is one node of the configuration.
type Member struct {
	Fsid ondisk.UUID
	Role ondisk.PFSType

	// Replaces is set while the node, a slave until it is in sync, is on its
	// way to take the place of another.
	Replaces ondisk.UUID

	// Incarnation changes when a node is made anew under its fsid. Zero: not
	// known yet.
	Incarnation ondisk.UUID

	// Acked is a txg that the node said was durable there. A node that now
	// claims less has lost writes or was restored from an image.
	Acked ondisk.Tid
}

// A Config is who belongs to a cluster. It is immutable once shared.
type Config struct {
	Version uint32
	Members []Member

	// Joint holds the members before the change while a change is under way:
	// every count then needs a quorum of both sets. Nil otherwise.
	Joint []Member
}

// Masters returns the fsids of the masters of a set of members.
func Masters(members []Member) []ondisk.UUID {
	var ids []ondisk.UUID
	for _, m := range members {
		if m.Role == ondisk.PFSMaster {
			ids = append(ids, m.Fsid)
		}
	}
	return ids
}

// Quorum is how many of n masters must agree.
func Quorum(n int) int { return n/2 + 1 }

// Sets returns the sets of masters that must each have a quorum: one, or the
// new and the old while a change is under way.
func (c *Config) Sets() [][]ondisk.UUID {
	sets := [][]ondisk.UUID{Masters(c.Members)}
	if c.Joint != nil {
		sets = append(sets, Masters(c.Joint))
	}
	return sets
}

// HasQuorum reports whether those for whom has says yes are a quorum of every
// set. Nobody is a quorum of no masters.
func (c *Config) HasQuorum(has func(ondisk.UUID) bool) bool {
	for _, set := range c.Sets() {
		n := 0
		for _, id := range set {
			if has(id) {
				n++
			}
		}
		if n < Quorum(len(set)) {
			return false
		}
	}
	return true
}

// Member returns the member with that fsid, of the new set first.
func (c *Config) Member(id ondisk.UUID) (Member, bool) {
	for _, set := range [][]Member{c.Members, c.Joint} {
		if i := slices.IndexFunc(set, func(m Member) bool { return m.Fsid == id }); i >= 0 {
			return set[i], true
		}
	}
	return Member{}, false
}

// IsMaster reports whether id has a vote in one of the sets.
func (c *Config) IsMaster(id ondisk.UUID) bool {
	for _, set := range c.Sets() {
		if slices.Contains(set, id) {
			return true
		}
	}
	return false
}

// Clone returns a copy that shares nothing.
func (c *Config) Clone() *Config {
	return &Config{c.Version, slices.Clone(c.Members), slices.Clone(c.Joint)}
}
