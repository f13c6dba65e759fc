// Package golden gives tests the golden volumes of testdata/images, unpacked
// into memory, and the manifests of what is in them.
//
// Not here: what the entries mean; the manifests say that of themselves, and
// testdata/README.md of all.
package golden

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk/memdev"
	"github.com/klauspost/compress/zstd"
)

// An Entry is one line of a manifest.
type Entry struct {
	Path    string    `json:"path"`
	PathHex string    `json:"path_hex"` // set if the path is not UTF-8
	Type    string    `json:"type"`
	Mode    string    `json:"mode"` // octal
	UID     uint32    `json:"uid"`
	GID     uint32    `json:"gid"`
	Nlink   uint64    `json:"nlink"`
	Inum    uint64    `json:"inum"`
	Size    uint64    `json:"size"`
	SHA256  string    `json:"sha256"`
	Target  string    `json:"target"`
	Rdev    [2]uint32 `json:"rdev"`
	MtimeUS uint64    `json:"mtime_us"`
}

var (
	mu       sync.Mutex // guards unpacked
	unpacked = map[string]*memdev.Device{}
)

// Dir is the folder of the images.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		images := filepath.Join(dir, "testdata", "images")
		if _, err := os.Stat(filepath.Join(images, "small.img.zst")); err == nil {
			return images
		}
		if up := filepath.Dir(dir); up != dir {
			dir = up
			continue
		}
		break
	}
	t.Fatal("no testdata/images above the working directory: run the tests inside the module")
	return ""
}

// Images names all images, sorted.
func Images(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Dir(t), "*.img.zst"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no images: %v", err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".img.zst")
	}
	return slices.Sorted(slices.Values(files))
}

// Device returns a device with the image of that name, as in "small". Each
// caller gets a copy of its own.
func Device(t testing.TB, name string) *memdev.Device {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	if d := unpacked[name]; d != nil {
		return d.Clone()
	}
	frame, err := os.ReadFile(filepath.Join(Dir(t), name+".img.zst"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := unpack(frame)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	unpacked[name] = d.Named(name + ".img")
	return d.Clone()
}

// Manifest returns the entries of a PFS of an image, nil if it has none.
func Manifest(t testing.TB, name, label string) []Entry {
	t.Helper()
	path := filepath.Join(Dir(t), name+"."+label+".jsonl")
	var r io.Reader
	f, err := os.Open(path)
	if r = f; os.IsNotExist(err) {
		if f, err = os.Open(path + ".zst"); os.IsNotExist(err) {
			return nil
		}
		var z *zstd.Decoder
		if err == nil {
			z, err = zstd.NewReader(f)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var entries []Entry
	for dec := json.NewDecoder(bufio.NewReader(r)); ; {
		var e Entry
		if err := dec.Decode(&e); err == io.EOF {
			return entries
		} else if err != nil {
			t.Fatalf("%s: line %d: %v", path, len(entries)+1, err)
		}
		entries = append(entries, e)
	}
}
