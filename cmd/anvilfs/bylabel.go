package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/cmd/advice"
)

// scanPause lies between two scans for what is not complete yet.
const scanPause = time.Second

// byLabel fills in the members of a source that names none: those that are on the
// block devices of this machine. What is not complete is waited for, so long as
// patience lasts; after that whoever opens the members judges if they are enough.
func (s source) byLabel(ctx context.Context, patience time.Duration, w io.Writer) (source, error) {
	end := time.Now().Add(patience)
	for said := false; ; said = true {
		f, err := s.onDevices(ctx)
		switch late := time.Until(end) <= 0; {
		case err == nil && (len(f.Missing) == 0 || late):
			return s.with(f, w)
		case late || errors.Is(err, errAmbiguous):
			return s, err
		case !said:
			fmt.Fprintf(advice.Lines(w), "anvilfs: waiting up to %s for the members of %s\n", patience, s.label)
		}
		select {
		case <-time.After(scanPause):
		case <-ctx.Done():
			return s, exitWith(exitMount, "waiting for the members of %s: %w", s.label, ctx.Err())
		}
	}
}

// errAmbiguous is of a label that several filesystems have: waiting does not help.
var errAmbiguous = errors.New("the label of several filesystems")

// onDevices scans for the filesystem of that label, or of that id.
func (s source) onDevices(ctx context.Context) (*foundFS, error) {
	r, err := scanFor(ctx, nil)
	if err != nil {
		return nil, exitWith(exitMount, "%w", err)
	}
	list := r.named(s.label)
	switch {
	case len(list) == 1:
		return list[0], nil
	case len(list) > 1:
		var each []string
		for _, f := range list {
			each = append(each, fmt.Sprintf("@%s (%s)", f.ID, f.Source))
		}
		return nil, exitWith(exitMount, "%s is %w: mount one of them by its id, %s", s.label, errAmbiguous, strings.Join(each, " or "))
	}
	var why []string
	for _, m := range r.Mounted {
		why = append(why, fmt.Sprintf("%s of %s, mounted on %s, are in use", strings.Join(m.Names, ", "), m.Source, m.Dir))
	}
	for _, o := range r.Others {
		why = append(why, o.Name+": "+o.Why)
	}
	for _, text := range r.Unread {
		why = append(why, "not looked at: "+text)
	}
	return nil, exitWith(exitMount, "%s", strings.Join(append([]string{fmt.Sprintf(
		"no filesystem %s is on the block devices of this machine: 'anvilfs scan' lists what is; image files are to be named", s.label)}, why...), "; "))
}

// with adds the members that were found to the source, which stays called as it was.
func (s source) with(f *foundFS, w io.Writer) (source, error) {
	found, err := parseSource(f.Source)
	if err != nil {
		return s, err
	}
	for _, n := range f.Nodes {
		if !n.Member {
			fmt.Fprintf(advice.Lines(w), "anvilfs: %s is left out: %s\n", n.Name, n.State)
		}
	}
	found.members = append(found.members, s.members...) // caches
	found.text, found.found = s.text, true
	return found, nil
}
