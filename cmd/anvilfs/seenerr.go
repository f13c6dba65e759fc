package main

import (
	"os"
	"path/filepath"
	"regexp"

	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

// An unmountable is why a cluster was not opened, with the places where the
// members that it names by their ids were seen last on this host.
type unmountable struct {
	err  error
	text string
}

func (u *unmountable) Error() string { return u.text }
func (u *unmountable) Unwrap() error { return u.err }

var fsidText = regexp.MustCompile(`with fsid ([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})`)

// namePlaces adds the places. Which cluster it is about nobody knows who could
// not open it: ids of members differ in all of them.
func namePlaces(err error, state string) error {
	text := err.Error()
	if !fsidText.MatchString(text) {
		return err
	}
	known := make(map[string]sighting)
	files := []string{state + seenSuffix}
	if state == "" {
		dir, derr := stateDir()
		if derr != nil {
			return err
		}
		files, _ = filepath.Glob(filepath.Join(dir, "*"+seenSuffix)) // the pattern is a good one
	}
	for _, f := range files {
		some := make(map[string]sighting)
		if text, err := os.ReadFile(f); err != nil || rawjson.Unmarshal(text, &some) != nil {
			continue // then less is said
		}
		for id, s := range some {
			if s.At.After(known[id].At) {
				known[id] = s
			}
		}
	}
	text = fsidText.ReplaceAllStringFunc(text, func(said string) string {
		if s, ok := known[fsidText.FindStringSubmatch(said)[1]]; ok {
			return said + ", last seen as " + s.String() + ","
		}
		return said
	})
	return &unmountable{err, text}
}
