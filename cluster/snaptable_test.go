package cluster

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

func sampleSnapshots() *SnapshotTable {
	at := time.Unix(1700000000, 123456789).UTC()
	return &SnapshotTable{
		Policy: SnapshotPolicy{Hourly: 24, Daily: 7, Weekly: 4, Monthly: 12, FreeSpace: true},
		Entries: []SnapshotEntry{
			{Name: "before-upgrade", Clid: ondisk.UUID{1}, After: ondisk.MakeTid(2, 9), Created: at,
				Holds: []Hold{{Owner: "backup", Since: at}, {Owner: "anna", Since: at, Until: at.Add(time.Hour)}}},
			{Name: "2026-11-28T12.00.00", Clid: ondisk.UUID{2}, After: ondisk.MakeTid(3, 1), Created: at.Add(time.Hour), Auto: true},
		},
	}
}

func TestSnapshotTableGolden(t *testing.T) {
	const path = "testdata/snapshots.hex"
	got, err := EncodeSnapshotTable(sampleSnapshots())
	check(t, err)
	if *rewrite {
		check(t, os.WriteFile(path, []byte(hex.Dump(got)), 0o644))
	}
	want, err := os.ReadFile(path)
	check(t, err)
	if hex.Dump(got) != string(want) {
		t.Errorf("encoding changed:\n%s", hex.Dump(got))
	}
	back, err := DecodeSnapshotTable(got)
	check(t, err)
	if !reflect.DeepEqual(back, sampleSnapshots()) {
		t.Errorf("decoded: %+v", back)
	}
	for i := range got {
		if _, err := DecodeSnapshotTable(got[:i]); !errors.Is(err, ondisk.ErrCorrupt) {
			t.Errorf("cut after %d bytes: %v", i, err)
		}
	}
}

func TestSnapshotNames(t *testing.T) {
	for _, name := range []string{"", ".x", "-f", "a/b", "a@b", "a,b", "a:b", `a\b`, "a\nb", "\xff", strings.Repeat("n", 256)} {
		if checkSnapshotName(name) == nil {
			t.Errorf("%q passed", name)
		}
	}
	for _, name := range []string{"a", "before the upgrade", "2026-11-28T12.00.00", "ärger", strings.Repeat("n", 255)} {
		check(t, checkSnapshotName(name))
	}
}

// As many as there may be fit, whatever is refused says what to do.
func TestSnapshotTableFull(t *testing.T) {
	table := &SnapshotTable{}
	for i := range SnapshotsMax {
		table.Entries = append(table.Entries, SnapshotEntry{Name: fmt.Sprintf("%0100d", i), Clid: ondisk.NewUUID()})
	}
	b, err := EncodeSnapshotTable(table)
	check(t, err)
	_, err = DecodeSnapshotTable(b)
	check(t, err)
	long := *table
	long.Entries = append(long.Entries, SnapshotEntry{Name: "one more", Clid: ondisk.NewUUID()})
	if _, err := EncodeSnapshotTable(&long); err == nil || !strings.Contains(err.Error(), "delete some") {
		t.Errorf("one too many: %v", err)
	}
}

func FuzzDecodeSnapshotTable(f *testing.F) {
	b, err := EncodeSnapshotTable(sampleSnapshots())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:snapHead])
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := DecodeSnapshotTable(b)
		if err != nil {
			if !errors.Is(err, ondisk.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again, err := EncodeSnapshotTable(table)
		if err != nil || string(again) != string(b) {
			t.Fatalf("%x becomes %x, %v", b, again, err)
		}
	})
}
