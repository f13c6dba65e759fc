package ledger

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "x.db")
	none := func(when string) {
		t.Helper()
		if list, err := Read(path, true); err != nil || len(list) != 0 {
			t.Errorf("%s: %v, %v", when, list, err)
		}
	}
	none("no file")
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it made something: %v", err)
	}
	must(t, os.Mkdir(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, nil, 0o600))
	none("an empty file")
	l := open(t, path)
	must(t, l.Found(damage("a", 2000), "/f", errors.New("no copy")))
	must(t, l.Found(damage("b", 2001), "/g", nil))
	if _, err := Read(path, true); !errors.Is(err, ErrBusy) {
		t.Errorf("of one that is open: %v", err)
	}
	must(t, l.Close())
	before, err := os.ReadFile(path)
	must(t, err)
	for all, want := range map[bool]int{false: 1, true: 2} {
		list, err := Read(path, all)
		if err != nil || len(list) != want || list[0].Path != "/f" {
			t.Errorf("all %v: %+v, %v", all, list, err)
		}
	}
	after, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("reading changed it")
	}
	l, err = Open(path, Options{Named: true}) // one that is empty stays then
	must(t, err)
	_, err = l.Clear(true)
	must(t, errors.Join(err, l.Close()))
	none("nothing in it")
	if !exists(t, path) {
		t.Error("reading took it away")
	}
	must(t, os.WriteFile(path, bytes.Repeat([]byte("no ledger"), 4096), 0o600))
	if _, err := Read(path, true); !errors.Is(err, errForeign) {
		t.Errorf("of something else: %v", err)
	}
	if _, err := os.Stat(path + asideSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was put aside: %v", err)
	}
}
