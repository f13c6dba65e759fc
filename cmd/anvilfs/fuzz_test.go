package main

import (
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func FuzzParseMountOptions(f *testing.F) {
	f.Add("rw,noatime,commit=5s,memory=1g,quorum=eio,deadline=10s", true)
	f.Add(`ro,log=a\,b,nosuid,_netdev,x-systemd.device-timeout=30`, false)
	f.Fuzz(func(t *testing.T, list string, sloppy bool) {
		o, err := parseMountOptions([]string{list}, sloppy)
		if err != nil {
			return
		}
		if o.commit < 0 || o.deadline < 0 || o.memory < 0 {
			t.Errorf("%q: %+v", list, o)
		}
		// Said twice is said once.
		if again, err := parseMountOptions([]string{list, list}, sloppy); err != nil || again != o {
			t.Errorf("%q: %+v, twice %+v, %v", list, o, again, err)
		}
	})
}

func FuzzParseSource(f *testing.F) {
	f.Add("a.img,b.img:b2.img@HOME")
	f.Add(`/dev/a\,b\@c@L`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSource(text)
		if err != nil {
			return
		}
		if len(s.members) == 0 {
			t.Errorf("%q names no member", text)
		}
		for _, m := range s.members {
			for _, p := range m.paths {
				if !strings.HasPrefix(p, "/") {
					t.Errorf("%q: %q is not absolute", text, p)
				}
			}
			if _, err := parseMember(m.name); err != nil && !strings.Contains(m.name, "@") {
				t.Errorf("%q: member %q alone: %v", text, m.name, err)
			}
		}
	})
}

// FuzzSplitWords splits what is written to the control file.
func FuzzSplitWords(f *testing.F) {
	f.Add(`snapshot create "a name" -q`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := splitWords(line)
		if err != nil {
			return
		}
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = strconv.Quote(w)
		}
		again, err := splitWords(strings.Join(quoted, " "))
		if err != nil || len(again) != len(words) {
			t.Fatalf("%q: %q, and quoted %q, %v", line, words, again, err)
		}
		for i, w := range words {
			if again[i] != w && w == strings.ToValidUTF8(w, "") {
				t.Errorf("%q: word %d is %q, and quoted %q", line, i, w, again[i])
			}
		}
	})
}

func FuzzParseSize(f *testing.F) {
	f.Add("10g")
	f.Add("1.5TiB")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		if err == nil && n < 0 {
			t.Errorf("%q is %d", s, n)
		}
		if n > 0 {
			human(uint64(n))
		}
	})
}

// FuzzParseMountinfo reads any line, and any names as the kernel writes them.
func FuzzParseMountinfo(f *testing.F) {
	f.Add(`36 35 0:44 / /mnt\040x rw,noatime shared:1 - fuse.anvilfs a.img@L rw`, "/mnt/a b", `a\,b@L`)
	kernel := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, "#", `\043`, `\`, `\134`)
	f.Fuzz(func(t *testing.T, line, dir, src string) {
		_, _ = parseMountinfo(line)
		dir = "/" + dir
		for _, s := range []string{dir, src} {
			if s == "" || strings.ContainsFunc(s, func(r rune) bool {
				return r == utf8.RuneError || unicode.IsSpace(r) && r != ' ' && r != '\t' && r != '\n'
			}) {
				return // the kernel writes bytes; words are split at what it leaves
			}
		}
		m, ok := parseMountinfo("36 35 0:44 / " + kernel.Replace(dir) + " rw shared:1 - fuse.anvilfs " + kernel.Replace(src) + " rw")
		if !ok || m.target != dir || m.source != src {
			t.Errorf("%q from %q is %+v", dir, src, m)
		}
	})
}

func FuzzParseWhen(f *testing.F) {
	f.Add("36h")
	f.Add("30d")
	f.Add("2027-01-31T18:00:00+01:00")
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		if at, err := parseWhen(s, now); err == nil && s != "" && strings.HasSuffix(s, "d") && at.Before(now) {
			t.Errorf("%q is %v", s, at)
		}
	})
}
