package layout

import (
	"os"
	"path/filepath"
	"strings"
)

// Identity is what a device is called by that goes where it goes: its link in
// /dev/disk/by-id, or model and serial number; "" if it has none that can be
// found out, as files have none.
func (s *System) Identity(path string) string {
	stat := s.Stat
	if stat == nil {
		stat = statOf
	}
	st, err := stat(path)
	if err != nil || !st.Block {
		return ""
	}
	if link := s.link(st.Rdev, stat); link != "" {
		return link
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(s.Root, "sys/dev/block", number(st.Rdev)))
	if err != nil {
		return ""
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		dir = filepath.Dir(dir)
	}
	var words []string
	for _, name := range []string{"device/model", "device/serial"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if word := strings.Join(strings.Fields(string(text)), " "); err == nil && word != "" {
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// link is the name in /dev/disk/by-id that says most to people: of a bus, not a
// bare number, and among those the first.
func (s *System) link(dev uint64, stat func(string) (Stat, error)) (best string) {
	dir := filepath.Join(s.Root, "dev/disk/by-id")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	bare := func(name string) bool { return strings.HasPrefix(name, "wwn-") || strings.HasPrefix(name, "nvme-eui.") }
	for _, e := range entries {
		st, err := stat(filepath.Join(dir, e.Name()))
		if err == nil && st.Block && st.Rdev == dev && (best == "" || bare(best) && !bare(e.Name())) {
			best = e.Name()
		}
	}
	return best
}
