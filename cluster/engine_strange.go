package cluster

import (
	"fmt"
	"strings"

	"github.com/anvilfs/anvilfs/ondisk"
)

// What is said of devices that cannot be mounted together names the one that is
// to be left out, where what they hold says it.

// twins refuses two devices with the identity of one node.
func twins(a, b opening) error {
	both := fmt.Sprintf("%s and %s are copies of one node (fsid %v)", a.c.name, b.c.name, b.c.info.Fsid)
	if a.d.Pos.T < b.d.Pos.T {
		a, b = b, a
	}
	if a.d.Pos == b.d.Pos {
		return refusef("%s in the same state: leave one of them out, and give it new content before it is used again (anvilfs node replace MNT NODE DEVICE, or anvilfs newfs)", both)
	}
	return refusef("%s: %s is the old one, at %s, and %s at %s: leave %s out, and give it new content before it is used again (anvilfs node replace MNT NODE DEVICE, or anvilfs newfs)",
		both, b.c.name, b.asOf(), a.c.name, a.asOf(), b.c.name)
}

// asOf is the state of what was opened: its txg, and when it came there.
func (r *opening) asOf() string {
	if when := r.c.since(); !when.IsZero() {
		return fmt.Sprintf("%v (%s)", r.d.Pos.T, when.Local().Format("2006-01-02 15:04:05"))
	}
	return r.d.Pos.T.String()
}

// strangers refuses devices of several clusters: those that are fewer are to be
// left out, or nobody can tell.
func (e *engine) strangers(opened []opening) error {
	names, sum := make(map[ondisk.UUID][]string), 0
	last := make(map[ondisk.UUID]string)
	var order []ondisk.UUID
	for i := range opened {
		r := &opened[i]
		if r.c == nil || e.returns(r.c) {
			continue
		}
		id := r.c.info.Clid
		if names[id] == nil {
			order = append(order, id)
		}
		names[id], last[id] = append(names[id], r.c.name), r.asOf()
		sum++
	}
	if len(order) < 2 {
		return nil
	}
	var sides, odd []string
	most := order[0]
	for _, id := range order {
		if len(names[id]) > len(names[most]) {
			most = id
		}
		sides = append(sides, fmt.Sprintf("%s of %v, at %s", strings.Join(names[id], ", "), id, last[id]))
	}
	for _, id := range order {
		if id != most {
			odd = append(odd, names[id]...)
		}
	}
	text := "what was given is of different clusters, or different snapshots: " + strings.Join(sides, "; ")
	if 2*len(names[most]) > sum {
		return refusef("%s. Leave %s out of the mount: anvilfs node add MNT DEVICE takes a device in, with new content", text, strings.Join(odd, " and "))
	}
	return refusef("%s. Mount those of one of them only: anvilfs node add MNT DEVICE takes a device in, with new content", text)
}
