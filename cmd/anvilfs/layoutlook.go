package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/cmd/layout"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A layoutLook knows what a layout tolerates less than it seems to. What lies
// below a device is looked up once for a set of members, in the background,
// since stat(2) can hang.
type layoutLook struct {
	dir  string
	home string // directory that names of members begin at

	mu      sync.Mutex
	of      string         // the members that places are of
	places  []layout.Place // by the order in that
	running chan struct{}  // closed when the look under way ends; nil: none is
}

// newLayoutLook notes where names begin, before the server leaves there.
func newLayoutLook(dir string) *layoutLook {
	home, err := os.Getwd()
	if err != nil {
		home = "/"
	}
	return &layoutLook{dir: dir, home: home}
}

// findings are those of the members as they are now; none while their places
// are not known yet.
func (l *layoutLook) findings(st *cluster.Status) []layout.Finding {
	members := layoutMembers(st)
	names := make([]string, len(members))
	for i := range members {
		names[i] = members[i].Name
	}
	places := l.placesOf(names)
	if places == nil {
		return nil
	}
	for i := range members {
		members[i].Place = places[i]
	}
	return layout.Judge(members, l.dir, human)
}

// layoutMembers are the members of the configuration that were given to the
// mount, by name.
func layoutMembers(st *cluster.Status) (list []layout.Member) {
	for i := range st.Nodes {
		n := &st.Nodes[i]
		if n.Role == ondisk.PFSNone.String() || n.State == cluster.NodeMissing {
			continue
		}
		list = append(list, layout.Member{Name: n.Name, Role: n.Role, Room: n.Total})
	}
	slices.SortFunc(list, func(a, b layout.Member) int { return compareNames(a.Name, b.Name) })
	return list
}

// placesOf returns the places of members, nil if they are not known in time.
func (l *layoutLook) placesOf(names []string) []layout.Place {
	key := strings.Join(names, "\x00")
	l.mu.Lock()
	if l.of != key && l.running == nil {
		l.running = make(chan struct{})
		go l.look(key, names)
	}
	running := l.running
	l.mu.Unlock()
	inTime(running)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of != key {
		return nil
	}
	return l.places
}

func (l *layoutLook) look(key string, names []string) {
	system := layout.System{Root: "/"}
	places := make([]layout.Place, len(names))
	for i, name := range names {
		var paths []string
		for _, p := range splitPlain(name, ':') {
			if p = unescape(p); !filepath.IsAbs(p) {
				p = filepath.Join(l.home, p)
			}
			paths = append(paths, p)
		}
		places[i] = system.Of(paths)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of, l.places = key, places
	close(l.running)
	l.running = nil
}

// layoutAdvice is what a status says of a layout: what is worth a change. It is
// nothing that is wrong now, and not told while something else is.
func layoutAdvice(m *mountStatus) (list []advice.Advice) {
	if m.Health != cluster.PoolHealthy {
		return nil
	}
	for _, f := range m.Layout {
		if f.Level != layout.Info {
			list = append(list, advice.Advice{Level: advice.Note, What: f.What, Do: f.Remedy})
		}
	}
	return list
}

// layoutOfNew is what newfs says of the members that it made.
func layoutOfNew(list []*newMember) string {
	system := layout.System{Root: "/"}
	var members []layout.Member
	for _, m := range list {
		members = append(members, layout.Member{Name: m.name, Role: m.role.String(), Room: m.result.Room, Place: system.Of(m.paths)})
	}
	var b strings.Builder
	for _, f := range layout.Judge(members, "DIR", human) {
		fmt.Fprintln(&b, f.What)
		if f.Remedy != "" {
			fmt.Fprintf(&b, "    once it is mounted: %s\n", f.Remedy)
		}
	}
	return b.String()
}
