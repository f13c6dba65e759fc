package main

import (
	"errors"
	"io"
	"syscall"
	"testing"
)

// What a read-only mount is asked changes nothing.
func TestLooks(t *testing.T) {
	c := &controller{}
	for line, want := range map[string]bool{
		"": true, "status": true, "status --json": true, "help": true, "pid": true, "wait healthy 5s": true,
		"errors list --all": true, "errors retry": false, "errors clear": false, "errors": false,
		"conflicts list --json": true, "conflicts forget x": false, "scrub status": true, "scrub start 3": false,
		"snapshot list --quick=true --": true, "snapshot create x": false, "snapshot policy --": true, "snapshot policy --json": true,
		"snapshot policy --json=true --daily=3": false, "snapshot policy -d 3": false, "snapshot": false,
		"quota list --json=true": true, "quota show -- /d": true, "quota set --bytes=1g -- /d": false, "quota clear -- /d": false,
		"quota recount": false, "quota": false, "du --": true,
		"sync": false, "node online a": false, "bulkfree": false, "dedup start": false, "remounting ro": false, "statusx": false,
	} {
		words, err := splitWords(line)
		if err != nil || looks(words) != want {
			t.Errorf("%q: %v, %v", line, !want, err)
		}
		if want {
			continue
		}
		if err := c.Ask(t.Context(), line, io.Discard); !errors.Is(err, syscall.EROFS) {
			t.Errorf("%q was carried out: %v", line, err)
		}
	}
}
