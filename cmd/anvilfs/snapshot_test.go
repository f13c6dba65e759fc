package main

import (
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
)

func TestParseWhen(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"":                     {},
		"36h":                  now.Add(36 * time.Hour),
		"30d":                  now.AddDate(0, 0, 30),
		"2027-01-31":           time.Date(2027, 1, 31, 0, 0, 0, 0, time.Local),
		"2027-01-31 18:30:00":  time.Date(2027, 1, 31, 18, 30, 0, 0, time.Local),
		"2027-01-31T18:30":     time.Date(2027, 1, 31, 18, 30, 0, 0, time.Local),
		"2027-01-31T18:30:00Z": time.Date(2027, 1, 31, 18, 30, 0, 0, time.UTC),
	} {
		got, err := parseWhen(text, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"never", "30 d", "-3d", "2027-13-01"} {
		if got, err := parseWhen(text, now); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// What is unique is not given out for what it is now if it is not, and a list without
// it is better than none.
func TestSnapshotsUniqueAsOf(t *testing.T) {
	s := snapshotList{list: []cluster.SnapshotReport{{Name: "monday", Unique: 7}}, asOf: "as of tid 1:1: no majority"}
	for _, c := range []struct {
		words snapshotWords
		want  []string
		not   string
	}{
		{snapshotWords{}, []string{"monday", "7 B", "\nas of tid 1:1: no majority\n"}, ""},
		{snapshotWords{json: true}, []string{`"unique_bytes": 7`, `"unique_as_of": "as of tid 1:1: no majority"`}, ""},
		{snapshotWords{script: true}, []string{"monday\t", "\t-\t\n"}, "7"},
	} {
		var b strings.Builder
		if err := printSnapshots(&b, s, &c.words); err != nil {
			t.Fatal(err)
		}
		for _, part := range c.want {
			if !strings.Contains(b.String(), part) {
				t.Errorf("%+v: no %q in %q", c.words, part, b.String())
			}
		}
		if _, last, _ := strings.Cut(b.String(), "Z\t"); c.not != "" && strings.Contains(last, c.not) {
			t.Errorf("%+v: %q in %q", c.words, c.not, b.String())
		}
	}
}
