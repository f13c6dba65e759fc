package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// An elsewhereError says where a filesystem that was unmounted is mounted still:
// at another directory, which a bind mount or a second mount made, or in the mount
// namespace of a container or service. Its server goes on until all of them are gone.
type elsewhereError []string

func (e elsewhereError) Error() string {
	return fmt.Sprintf("mounted elsewhere, too, so its devices stay in use: %s", strings.Join(e, "; "))
}

// is reports whether two entries are of one mounted filesystem. The number of its
// device alone may be another's by now: a server that a hung device holds up
// outlives the number.
func (m *mountEntry) is(o *mountEntry) bool { return m.dev == o.dev && m.source == o.source }

// elsewhere lists the places at which a filesystem is mounted that was mounted
// as gone, with what ends each. Other mount namespaces are looked at if all is set:
// containers that are being started have all mounts for a moment.
func elsewhere(gone *mountEntry, all bool) []string {
	list, err := anvilMounts()
	if err != nil {
		return nil // it is not known to be anywhere
	}
	var places []string
	for i := range list {
		if m := &list[i]; m.is(gone) {
			places = append(places, "'umount "+m.target+"'")
		}
	}
	if !all {
		return places
	}
	own, _ := os.Readlink("/proc/self/ns/mnt") // "" is no namespace's name
	seen := map[string]bool{own: true}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return places
	}
	for _, p := range procs {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		ns, err := os.Readlink("/proc/" + p.Name() + "/ns/mnt")
		if err != nil || seen[ns] {
			continue // ended, somebody else's, or known
		}
		seen[ns] = true
		list, err := anvilMountsOf(p.Name())
		if err != nil {
			continue // ended
		}
		for i := range list {
			if m := &list[i]; m.is(gone) {
				places = append(places, fmt.Sprintf("%s for process %s (%s) and others of its mount namespace: 'nsenter -m -t %s umount %s'",
					m.target, p.Name(), nameOf(p.Name()), p.Name(), m.target))
				break
			}
		}
	}
	return places
}

// nameOf is what a process is called.
func nameOf(pid string) string {
	name, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		return "ended"
	}
	return strings.TrimSpace(string(name))
}
