package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func (s source) describe() string {
	var parts []string
	for _, m := range s.members {
		parts = append(parts, fmt.Sprintf("%s=%s", m.name, strings.Join(m.paths, "+")))
	}
	return strings.Join(parts, " ") + " label " + s.label
}

func TestParseSource(t *testing.T) {
	here, err := filepath.Abs("x")
	if err != nil {
		t.Fatal(err)
	}
	here = strings.TrimSuffix(here, "x")
	for _, c := range []struct{ text, want string }{
		{"/dev/sdb@HOME", "/dev/sdb=/dev/sdb label HOME"},
		{"/a,/b,/c@HOME", "/a=/a /b=/b /c=/c label HOME"},
		{"/a", "/a=/a label "},
		{"a.img@X", "a.img=" + here + "a.img label X"},
		{"/a:/b,/c@X", "/a:/b=/a+/b /c=/c label X"},
		{`/a\,b\:c\@d@X`, `/a\,b\:c\@d=/a,b:c@d label X`},
		{"/a@b@X", "/a@b=/a@b label X"},
		{"anvilfs#/dev/sdb,/dev/sdc:/dev/sdd@X", "/dev/sdb=/dev/sdb /dev/sdc:/dev/sdd=/dev/sdc+/dev/sdd label X"},
		{`\anvilfs#a`, `\anvilfs#a=` + here + "anvilfs#a label "},
	} {
		s, err := parseSource(c.text)
		if err != nil || s.describe() != c.want {
			t.Errorf("%s: %q (%v), want %q", c.text, s.describe(), err, c.want)
		}
	}
	for _, bad := range []string{"", "@X", "/a@", "/a,,/b@X", "/a,/a@X", "/a,/b/../a@X", "/a:@X", "/a,cache=/f,cache=/g@X", "anvilfs#@X", "anvilfs#"} {
		if s, err := parseSource(bad); err == nil {
			t.Errorf("%q passed as %q", bad, s.describe())
		}
	}
	m, err := parseMember("/dev/by@id")
	if err != nil || m.name != "/dev/by@id" || m.paths[0] != "/dev/by@id" {
		t.Errorf("member: %+v, %v", m, err)
	}
	if m, err := parseMember("anvilfs#a"); err != nil || m.paths[0] != here+"anvilfs#a" {
		t.Errorf("a file of that name: %+v, %v", m, err)
	}
	if _, err := parseMember("/a,/b"); err == nil {
		t.Error("two members passed as one")
	}
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		text string
		want int64
	}{
		{"0", 0}, {"512", 512}, {"1k", 1024}, {"64M", 64 << 20}, {"1.5g", 3 << 29}, {"2TiB", 2 << 40}, {"10gb", 10 << 30},
	} {
		if got, err := parseSize(c.text); err != nil || got != c.want {
			t.Errorf("%s: %d (%v), want %d", c.text, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "-1", "k", "1x", "nan", "1e30", "ten"} {
		if got, err := parseSize(bad); err == nil {
			t.Errorf("%q passed as %d", bad, got)
		}
	}
	for _, c := range []struct {
		n    uint64
		want string
	}{
		{0, "0 B"}, {1023, "1023 B"}, {1024, "1 KiB"}, {1536, "1.5 KiB"}, {10 << 20, "10 MiB"}, {1000 << 30, "0.98 TiB"},
		{123456789, "118 MiB"}, {^uint64(0), "16 EiB"},
	} {
		if got := human(c.n); got != c.want {
			t.Errorf("%d: %s, want %s", c.n, got, c.want)
		}
	}
}
