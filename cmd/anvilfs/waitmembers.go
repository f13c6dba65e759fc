package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/cmd/advice"
)

// waitForMembers returns when all devices of the source are there, or after
// patience: whether the members that are there are enough is seen by opening them.
// At boot, fstab is read while disks are still being found.
func waitForMembers(ctx context.Context, s source, patience time.Duration, w io.Writer) error {
	if patience == 0 {
		return nil
	}
	over := time.NewTimer(patience)
	defer over.Stop()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for said := false; ; said = true {
		missing := s.missing()
		if len(missing) == 0 {
			return nil
		}
		if !said {
			fmt.Fprintf(advice.Lines(w), "anvilfs: waiting up to %s for %s\n", patience, strings.Join(missing, ", "))
		}
		select {
		case <-look.C:
		case <-over.C:
			return nil
		case <-ctx.Done():
			return exitWith(exitMount, "waiting for %s: %w", strings.Join(missing, ", "), ctx.Err())
		}
	}
}

// missing are the devices that do not exist. What else is wrong with one is
// found by opening it.
func (s source) missing() []string {
	var list []string
	for _, m := range s.members {
		for _, p := range m.paths {
			if _, err := os.Stat(p); errors.Is(err, fs.ErrNotExist) {
				list = append(list, p)
			}
		}
	}
	return list
}
