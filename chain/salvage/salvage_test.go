package salvage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/golden"
)

// Every file of the golden volumes comes out with its content, the damaged ones
// as far as they are whole.
func TestCopyOfGoldenVolumes(t *testing.T) {
	for _, image := range golden.Images(t) {
		if image == "multivol-1" || image == "sparse" {
			continue // one goes with multivol-0, the other is tested below
		}
		t.Run(image, func(t *testing.T) {
			devs := []ondisk.Device{golden.Device(t, image)}
			if image == "multivol-0" {
				devs = append(devs, golden.Device(t, "multivol-1"))
			}
			manifests, err := filepath.Glob(filepath.Join(golden.Dir(t), strings.TrimSuffix(image, "-0")+".*.jsonl*"))
			if err != nil || len(manifests) == 0 && len(devs) == 1 {
				t.Fatal("no manifest", err)
			}
			if len(devs) > 1 {
				rep, err := Copy(context.Background(), devs, t.TempDir(), Options{Slot: -1})
				if err != nil || rep.Lost > 0 || rep.Dirs == 0 {
					t.Fatalf("%+v, %v", rep, err)
				}
			}
			for _, m := range manifests {
				compare(t, strings.TrimSuffix(image, "-0"), strings.Split(filepath.Base(m), ".")[1], devs)
			}
		})
	}
}

func compare(t *testing.T, image, pfs string, devs []ondisk.Device) {
	t.Helper()
	dir := t.TempDir()
	lost := make(map[string]bool)
	rep, err := Copy(context.Background(), devs, dir, Options{Label: pfs, Slot: -1, Lost: func(path string, err error) {
		lost[path] = true
		if !errors.Is(err, ondisk.ErrCorrupt) && err.Error() != "only root makes device files" {
			t.Errorf("%s: %v", path, err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, e := range golden.Manifest(t, image, pfs) {
		if e.Type != "file" {
			continue
		}
		files++
		if lost[trim(e.Path)] {
			continue
		}
		if e.PathHex != "" {
			name, err := hex.DecodeString(e.PathHex)
			if err != nil {
				t.Fatal(err)
			}
			e.Path = string(name)
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Path))
		if err != nil {
			t.Errorf("%s: %v", e.Path, err)
			continue
		}
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != e.SHA256 {
			t.Errorf("%s: the content is another", e.Path)
		}
	}
	if rep.Files+rep.Links+len(lost) < files {
		t.Errorf("%s: %+v of %d files", pfs, rep, files)
	}
	if image == "damaged-data" && len(lost) == 0 {
		t.Error("nothing was missed in a damaged volume")
	}
}

func trim(path string) string { return filepath.Clean("/" + path)[1:] }

func TestRefusals(t *testing.T) {
	devs := []ondisk.Device{golden.Device(t, "small")}
	for _, c := range []struct {
		o    Options
		want error
	}{
		{Options{Label: "NONE", Slot: -1}, ErrNoPFS},
		{Options{Slot: 3}, ErrNoSlot},
		{Options{Slot: -1, Path: "/no/such"}, os.ErrNotExist},
	} {
		if _, err := Copy(context.Background(), devs, t.TempDir(), c.o); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.o, err, c.want)
		}
	}
	if _, err := Copy(context.Background(), devs, filepath.Join(t.TempDir(), "none"), Options{Slot: -1}); err == nil {
		t.Error("a directory that does not exist was taken")
	}
}
