package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/chain/salvage"
	"github.com/anvilfs/anvilfs/ondisk"
)

// TestJunkHasRemedy: what is no volume is called so, with what to do.
func TestJunkHasRemedy(t *testing.T) {
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, bytes.Repeat([]byte("junk"), 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"show volume", "show pfs", "show freemap", "show chain", "pfs list", "grow", "convert"} {
		_, said := anvil(t, exitFailed, append(strings.Fields(words), junk)...)
		if !strings.Contains(said, "not a HAMMER2 volume header: check the path") || strings.Count(said, "check the path") != 1 {
			t.Errorf("%s: %s", words, said)
		}
	}
}

// TestQuietRecoverTellsOlder: that all of it is older is no detail.
func TestQuietRecoverTellsOlder(t *testing.T) {
	m := member{name: "a", paths: []string{filepath.Join(t.TempDir(), "a")}}
	if err := os.WriteFile(m.paths[0], make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, quiet := range []bool{false, true} {
		c, out := new(cobra.Command), new(bytes.Buffer)
		c.SetContext(t.Context())
		c.SetOut(out)
		c.SetErr(out)
		err := salvageTo(c, m, t.TempDir(), salvage.Options{}, quiet, func(_ context.Context, _ []ondisk.Device, _ string, o salvage.Options) (salvage.Report, error) {
			o.Lost("PFS HOME", fmt.Errorf("%w, of txg 1:2", salvage.ErrOlder))
			o.Lost("a/file", errors.New("bad block"))
			return salvage.Report{Files: 1}, nil
		})
		if err != nil || !strings.Contains(out.String(), "PFS HOME: what is copied is older, of txg 1:2\n") || strings.Contains(out.String(), "a/file") == quiet {
			t.Errorf("quiet %v: %v, %s", quiet, err, out)
		}
	}
}
