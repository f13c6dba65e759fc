package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/filedev"
)

// take opens all devices of a member that nobody else is to have; it says which
// mount has them.
func (m member) take(ctx context.Context, readOnly bool) ([]ondisk.Device, error) {
	devs, err := m.open(readOnly)
	if errors.Is(err, filedev.ErrInUse) {
		err = m.inUse(ctx, err)
	}
	return devs, err
}

// nodeOn is what a member is called by the mount that has its devices; ok is
// false if no mount here has them, or it does not answer.
func (m member) nodeOn(ctx context.Context) (dir, node string, ok bool) {
	on := m.mounted(ctx)
	if on == nil {
		return "", "", false
	}
	st, err := statusOf(ctx, on.target)
	if err != nil {
		return "", "", false
	}
	node, ok = st.called(m.paths)
	return on.target, node, ok
}

// called is the name of the node, or cache, that one of the devices is a part of.
func (st *mountStatus) called(paths []string) (name string, ok bool) {
	var files []os.FileInfo
	for _, p := range paths {
		if f, err := os.Stat(p); err == nil {
			files = append(files, f)
		}
	}
	for _, name := range st.names() {
		for _, p := range devicesOf(name, st.Server.Home) {
			f, err := os.Stat(p)
			if slices.Contains(paths, p) || err == nil && slices.ContainsFunc(files, func(o os.FileInfo) bool { return same(o, f) }) {
				return name, true
			}
		}
	}
	return "", false
}

// names are those of the nodes and caches.
func (st *mountStatus) names() (list []string) {
	for i := range st.Nodes {
		list = append(list, st.Nodes[i].Name)
	}
	for i := range st.Caches {
		list = append(list, st.Caches[i].Name)
	}
	return list
}

// nodeNamed is the name that the mount on dir has for what was typed: that name
// itself, an id, or any path to one of its devices, from wherever one stands. What
// is nothing of these the mount is to judge.
func nodeNamed(ctx context.Context, dir, word string) string {
	st, err := statusOf(ctx, dir)
	if err != nil || slices.Contains(st.names(), word) {
		return word
	}
	m, err := parseMember(word)
	if err != nil {
		return word
	}
	if name, ok := st.called(m.paths); ok {
		return name
	}
	return word
}

// devicesOf are the devices in a name, by their full paths.
func devicesOf(name, home string) (list []string) {
	for _, p := range splitPlain(name, ':') {
		if p = unescape(p); !filepath.IsAbs(p) {
			p = filepath.Join(home, p)
		}
		list = append(list, p)
	}
	return list
}

// likeName writes the devices of a new member as those of another one are written:
// from home, if that one's are and they lie below it.
func likeName(device, other, home string) string {
	if filepath.IsAbs(unescape(splitPlain(other, ':')[0])) {
		return device
	}
	words := devicesOf(device, home)
	for i, p := range words {
		rel, err := filepath.Rel(home, p)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			return device
		}
		words[i] = memberWord(rel)
	}
	return strings.Join(words, ":")
}

// likeOthers writes the devices of a new member as those of node are written, or of
// any other if there is no such node.
func (c *controller) likeOthers(device, node string) string {
	var other string
	for _, n := range c.pool.Status().Nodes {
		if n.State != cluster.NodeMissing && (other == "" || n.Name == node) {
			other = n.Name
		}
	}
	return likeName(device, other, c.seen.home)
}

// newcomer is a member that comes to the mount, named as its nodes are.
func (c *controller) newcomer(word, node string) (member, error) {
	m, err := parseMember(word)
	if err != nil {
		return m, err
	}
	m.name, m.paths = c.likeOthers(word, node), c.seen.paths(word)
	return m, nil
}

// memberWord writes a path as one device of one member, as parseMember reads it.
var memberWord = strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace
