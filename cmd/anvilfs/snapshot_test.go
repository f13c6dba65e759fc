package main

import (
	"testing"
	"time"
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
