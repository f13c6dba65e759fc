package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A state is the content of a directory: files by name.
type state map[string]*file

// A file may have several names in a state; it is one *file then.
type file struct {
	data []byte
	mode os.FileMode
	attr string // value of the attribute user.fsx, "" = none
	sum  string // of all the above; "" = to be computed
}

const attrName = "user.fsx"

func (f *file) digest() string {
	if f.sum == "" {
		h := sha256.New()
		fmt.Fprintf(h, "%v %q ", f.mode, f.attr)
		h.Write(f.data)
		f.sum = fmt.Sprintf("%d:%s", len(f.data), hex.EncodeToString(h.Sum(nil)[:12]))
	}
	return f.sum
}

// String is one line: the files by name, and which are one.
func (s state) String() string {
	first := make(map[*file]string)
	var words []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		f := s[name]
		if other, ok := first[f]; ok {
			words = append(words, name+"="+other)
			continue
		}
		first[f] = name
		words = append(words, name+"="+f.digest())
	}
	return strings.Join(words, " ") + "\n"
}

// scan reads a directory.
func scan(dir string) (state, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, failed(err)
	}
	s := make(state)
	var infos []os.FileInfo
	var files []*file
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := os.Lstat(path)
		if err != nil {
			return nil, failed(err)
		}
		if i := slices.IndexFunc(infos, func(o os.FileInfo) bool { return os.SameFile(o, info) }); i >= 0 {
			s[e.Name()] = files[i]
			continue
		}
		f := &file{mode: info.Mode()}
		if f.data, err = os.ReadFile(path); err != nil {
			return nil, failed(err)
		}
		if f.attr, err = getAttr(path); err != nil {
			return nil, failed(err)
		}
		s[e.Name()] = f
		infos, files = append(infos, info), append(files, f)
	}
	return s, nil
}

// check compares a directory with the states of a history.
func check(dir, history string) error {
	text, err := os.ReadFile(history)
	if err != nil {
		return err
	}
	s, err := scan(dir)
	if err != nil {
		return err
	}
	got := s.String()
	lines := slices.Collect(strings.Lines(string(text)))
	for i, want := range lines {
		if got == want {
			fmt.Printf("state %d of %d that may be\n", i+1, len(lines))
			return nil
		}
	}
	return fmt.Errorf("%s is in no state that it ever was in since the last flush:\n%s", dir, explain(got, lines))
}

// explain names the files that are in no state, else the states they are of.
func explain(got string, lines []string) string {
	var b strings.Builder
	for _, word := range strings.Fields(got) {
		var in []int
		for i, line := range lines {
			if slices.Contains(strings.Fields(line), word) {
				in = append(in, i+1)
			}
		}
		switch {
		case len(in) == 0:
			fmt.Fprintf(&b, "  %s: of none of %d\n", word, len(lines))
		case len(in) < len(lines):
			fmt.Fprintf(&b, "  %s: of %d to %d of %d\n", word, in[0], in[len(in)-1], len(lines))
		}
	}
	if n := len(lines); n > 0 {
		fmt.Fprintf(&b, "  acknowledged: %s  the last: %s", lines[0], lines[n-1])
	}
	return b.String()
}
