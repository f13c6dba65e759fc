package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/filedev"
)

// A source is what stands before the mount point: MEMBER[,MEMBER...][@LABEL],
// where a member is a device or file, or several joined by colons that are
// one volume. Behind cache= stands not a member, but a cache before them. A
// backslash takes the meaning from the next character. fstab has anvilfs# before
// it all.
type source struct {
	text    string // as given
	label   string // "" = the only PFS there is
	members []member
	found   bool // the members were: the text does not name them
}

// A member is the devices of one volume.
type member struct {
	name  string // as written
	paths []string
	cache bool // it is no member, but a cache
}

func parseSource(text string) (source, error) {
	s, err := parseWanted(text)
	switch {
	case err != nil:
		return s, err
	case len(s.members) == 0:
		return s, usageError("source %q has no member: write MEMBER,MEMBER,...@LABEL", text)
	case len(s.nodes()) == 0:
		return s, usageError("source %q has only a cache: name the members that it is to be before", text)
	}
	return s, nil
}

// parseWanted reads a source that may leave out its members: @LABEL, or with a
// cache before what is found.
func parseWanted(text string) (source, error) {
	s := source{text: text}
	list := strings.TrimPrefix(text, fstabPrefix)
	if at := lastPlain(list, '@'); at >= 0 {
		list, s.label = list[:at], unescape(list[at+1:])
		if s.label == "" {
			return s, usageError("source %q has nothing behind the @: give the label of a PFS, or leave out the @", text)
		}
		if list == "" {
			return s, nil
		}
	}
	seen := make(map[string]bool)
	for _, part := range splitPlain(list, ',') {
		name, cache := strings.CutPrefix(part, cachePrefix)
		m := member{name: name, cache: cache}
		for _, p := range splitPlain(name, ':') {
			if p = unescape(p); p == "" {
				return s, usageError("source %q has an empty member: write MEMBER,MEMBER,...@LABEL", text)
			}
			abs, err := filepath.Abs(p)
			if err != nil {
				return s, err
			}
			one := abs
			if to, err := filepath.EvalSymlinks(abs); err == nil {
				one = to // it may be named by id as well
			}
			if seen[one] {
				return s, usageError("%s is named twice in source %q: name every device once", p, text)
			}
			seen[one] = true
			m.paths = append(m.paths, abs)
		}
		s.members = append(s.members, m)
	}
	if caches := len(s.members) - len(s.nodes()); caches > 1 {
		return s, usageError("source %q has %d caches: a mount has one", text, caches)
	}
	return s, nil
}

// full names all members, found ones too; parseSource reads it.
func (s source) full() string {
	var list []string
	for _, m := range s.members {
		name := m.name
		if m.cache {
			name = cachePrefix + name
		}
		list = append(list, name)
	}
	text := strings.Join(list, ",")
	if s.label != "" {
		text += "@" + escapeLabel(s.label)
	}
	return text
}

// fstabPrefix keeps systemd from taking a source that begins with /dev/ for the
// name of one device, which never appears. It stays a part of the mount's source
// in /proc: by that mount -a knows which lines of fstab are mounted already.
const fstabPrefix = "anvilfs#"

// cachePrefix stands before a cache in a source.
const cachePrefix = "cache="

// nodes are the members, without a cache.
func (s source) nodes() []member {
	return slices.DeleteFunc(slices.Clone(s.members), func(m member) bool { return m.cache })
}

// lastPlain is the position of the last sep without a backslash, or -1.
func lastPlain(s string, sep byte) int {
	last := -1
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			last = i
		}
	}
	return last
}

// splitPlain splits at every sep without a backslash.
func splitPlain(s string, sep byte) []string {
	var parts []string
	from := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			parts = append(parts, s[from:i])
			from = i + 1
		}
	}
	return append(parts, s[from:])
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// parseMember reads one member, as commands on devices take it.
func parseMember(word string) (member, error) {
	text := strings.ReplaceAll(word, "@", `\@`)
	if strings.HasPrefix(text, cachePrefix) || strings.HasPrefix(text, fstabPrefix) {
		text = `\` + text // it is a name like any other here
	}
	s, err := parseSource(text)
	if err != nil {
		return member{}, err
	}
	if len(s.members) != 1 {
		return member{}, usageError("%s: one device or image file is needed here", word)
	}
	s.members[0].name = word
	return s.members[0], nil
}

// open opens all devices of the member.
func (m member) open(readOnly bool) ([]ondisk.Device, error) {
	var devs []ondisk.Device
	for _, p := range m.paths {
		d, err := filedev.Open(p, filedev.Options{ReadOnly: readOnly})
		if err != nil {
			for _, d := range devs {
				err = errors.Join(err, d.Close())
			}
			return nil, err
		}
		devs = append(devs, d)
	}
	return devs, nil
}

// explain adds the remedy to errors of opening that do not carry one.
func explain(err error) error {
	var missing *chain.MissingVolume
	var misfit *chain.Misfit
	switch {
	case errors.As(err, &missing):
		return fmt.Errorf("%w: %s", err, missing.Remedy())
	case errors.As(err, &misfit):
		return fmt.Errorf("%w: give all devices of one volume, joined by colons: 'anvilfs scan' shows what is where", err)
	case errors.Is(err, ondisk.ErrNotHammer2):
		return fmt.Errorf("%w: check the path, or make a volume there with 'anvilfs newfs'", err)
	case errors.Is(err, ondisk.ErrCorrupt):
		return fmt.Errorf("%w: 'anvilfs fsck' lists the damage", err)
	}
	return err
}

// specs are the members for the pool.
func (s source) specs(readOnly bool) []cluster.MemberSpec {
	var list []cluster.MemberSpec
	for _, m := range s.members {
		list = append(list, m.spec(readOnly))
	}
	return list
}

func (m member) spec(readOnly bool) cluster.MemberSpec {
	return cluster.MemberSpec{
		Name: m.name, Cache: m.cache,
		Open: func(context.Context) ([]ondisk.Device, error) { return m.open(readOnly) },
	}
}

// findLabel fills in the label where there is only one to choose.
func (s *source) findLabel(ctx context.Context) error {
	if s.label != "" {
		return nil
	}
	var lastErr error
	for _, m := range s.nodes() {
		v, err := openVolume(ctx, m, chain.Options{ReadOnly: true})
		if err != nil {
			lastErr = err
			continue
		}
		infos, damage := v.PFSs(ctx)
		if err := v.Close(); err != nil {
			lastErr = err
			continue
		}
		var labels []string
		for _, i := range infos {
			if cluster.Mountable(&i) {
				labels = append(labels, i.Label)
			}
		}
		if damage != nil {
			if lastErr = damage; len(labels) > 0 {
				lastErr = fmt.Errorf("%s holds %s, and what cannot be read: say which one with %s@LABEL: %w", m.name, strings.Join(labels, ", "), s.text, damage)
			}
			continue // another member may tell
		}
		if len(labels) != 1 {
			return fmt.Errorf("%s holds %d PFSs (%s): say which one with %s@LABEL",
				m.name, len(labels), strings.Join(labels, ", "), s.text)
		}
		s.label = labels[0]
		return nil
	}
	return lastErr
}
