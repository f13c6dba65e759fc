package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk/filedev"
)

// annotate says of members that are missing where they were. One that was given
// without all of its devices is two nodes to the pool, which cannot tell: one that
// does not open, and one that is missing. Here they are one again.
func (s *sightings) annotate(nodes []cluster.NodeStatus) []cluster.NodeStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := make(map[int]bool) // of nodes: told with another
	for i := range nodes {
		n := &nodes[i]
		was, ok := s.known[n.Fsid]
		if !ok || n.State != cluster.NodeMissing {
			continue
		}
		n.LastSeen = was.String()
		for k := range nodes {
			if lacks := s.lacks(&nodes[k], &was); lacks != nil {
				f := &nodes[k]
				f.Fsid, f.Role, f.LastSeen = n.Fsid, n.Role, n.LastSeen
				f.Next = "mount again, and name it with all of its devices, as " + f.Name + ":" + strings.Join(lacks, ":")
				parts[i] = true
			}
		}
	}
	if len(parts) == 0 {
		return nodes
	}
	var whole []cluster.NodeStatus
	for i := range nodes {
		if !parts[i] {
			whole = append(whole, nodes[i])
		}
	}
	return whole
}

// lacks are the devices of a member seen earlier that n, which was not opened,
// was given without; nil if n is not that member.
func (s *sightings) lacks(n *cluster.NodeStatus, was *sighting) (paths []string) {
	given := s.paths(n.Name)
	if n.State != cluster.NodeFailed || n.Next == "" || len(given) >= len(was.Devices) {
		return nil
	}
	for i, d := range was.Devices {
		switch {
		case i >= len(given):
			paths = append(paths, d.Path)
		case !slices.Contains(given, d.Path):
			return nil
		}
	}
	return paths
}

// ownDevice says of a device that is in use if it is a member of this mount: then
// no program is to be stopped.
func (c *controller) ownDevice(device string, err error) error {
	if err == nil {
		return nil
	}
	wanted := c.seen.paths(device)
	for _, n := range c.pool.Status().Nodes {
		if !errors.Is(err, filedev.ErrInUse) && (n.Name != device || n.Total == 0) {
			continue // it is about something else, or the node is not open
		}
		if slices.ContainsFunc(c.seen.paths(n.Name), func(p string) bool { return slices.Contains(wanted, p) }) {
			return &ownCopy{device, c.server.Dir, n, filedev.ErrInUse}
		}
	}
	return err
}
