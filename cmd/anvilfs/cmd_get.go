package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

// A storedJSON is a file as get --json tells of it.
type storedJSON struct {
	Path              string `json:"path"`
	Compression       string `json:"compression"`
	CompressionSource string `json:"compression_source"`
	Check             string `json:"check"`
	CheckSource       string `json:"check_source"`
}

const getHelp = `Show how files are stored. With a list of properties, or all, in front of the
paths, each is shown with where it comes from:

  default              as in a new filesystem, from its root on
  inherited from DIR   as the directory has it that it was made in, up to DIR
  local                other than that of its directory

What is made in a directory gets its properties once; a later change of the
directory leaves what is there as it is, which is then local.`

func getCommand() *cobra.Command {
	var script, asJSON, recursive bool
	c := &cobra.Command{
		Use:   "get [PROPERTY,...|all] PATH...",
		Short: "Show how files are stored",
		Long:  getHelp,
		Args:  atLeast(1, "files and directories"),
		RunE: func(c *cobra.Command, args []string) error {
			wanted, args := wantedProperties(args)
			var files []storedFile
			for i, root := range args {
				if err := wordOfGet(root); i == 0 && wanted == nil && err != nil {
					return err
				}
				err := walkStored(root, recursive, func(path string) error {
					f, err := storedAt(path, asJSON || wanted != nil)
					files = append(files, f)
					return err
				})
				if err != nil {
					return err
				}
			}
			out := c.OutOrStdout()
			if asJSON {
				return rawjson.Write(out, storedList(files), "  ")
			}
			t := storedTable(files, wanted, !script)
			if !script {
				t.print(out)
				return nil
			}
			for _, row := range t.rows {
				fmt.Fprintln(out, strings.Join(row, "\t"))
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&script, "script", "H", false, "no heading, tabs between, for scripts")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "and everything below")
	return c
}

// wordOfGet refuses a first word that is no file: it may be meant as a property.
func wordOfGet(word string) error {
	if _, err := os.Lstat(word); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if word == "all" || isPropertyName(word) {
		return usageError("anvilfs get takes files and directories behind the properties: see anvilfs get --help")
	}
	return fmt.Errorf("there is no file %s, nor a property of that name: these are compression and check", word)
}

// wantedProperties takes a list of properties off the front; nil: none was given.
func wantedProperties(args []string) (wanted, rest []string) {
	if len(args) < 2 {
		return nil, args
	}
	if args[0] == "all" {
		for _, p := range properties {
			wanted = append(wanted, p.name)
		}
		return wanted, args[1:]
	}
	wanted = strings.Split(args[0], ",")
	if slices.ContainsFunc(wanted, func(name string) bool { return !isPropertyName(name) }) {
		return nil, args
	}
	return wanted, args[1:]
}

// A storedFile is a path with the value and the source of each property, in the
// order of properties.
type storedFile struct {
	path           string
	values, source []string
}

// storedAt reads the properties of a path; sources only if they are wanted, since to
// find them all directories above are looked at.
func storedAt(path string, sources bool) (f storedFile, err error) {
	f.path = path
	for _, p := range properties {
		value, err := getProperty(path, p.name)
		if err != nil {
			return f, err
		}
		source := ""
		if sources {
			if source, err = sourceOf(path, p.name, value); err != nil {
				return f, err
			}
		}
		f.values, f.source = append(f.values, value), append(f.source, source)
	}
	return f, nil
}

// firstValues are what the root of a new filesystem has.
var firstValues = map[string]string{"compression": "lz4", "check": "xxhash64"}

// sourceOf finds the topmost directory from which on all have the value.
func sourceOf(path, name, value string) (string, error) {
	at, err := filepath.Abs(path)
	if err == nil {
		at, err = filepath.EvalSymlinks(at)
	}
	if err != nil {
		return "", err
	}
	first := at
	for {
		up := filepath.Dir(at)
		if top, err := isTop(at, up); err != nil {
			return "", err
		} else if top {
			if value == firstValues[name] {
				return "default", nil
			}
			break
		}
		above, err := getProperty(up, name)
		if err != nil {
			return "", err
		}
		if above != value {
			break
		}
		at = up
	}
	if at == first {
		return "local", nil
	}
	return "inherited from " + at, nil
}

// isTop reports whether a directory is the root of a filesystem, or of a
// snapshot in one.
func isTop(at, up string) (bool, error) {
	if filepath.Base(up) == "snapshots" && filepath.Base(filepath.Dir(up)) == ".anvilfs" {
		return true, nil
	}
	var here, above unix.Stat_t
	if err := unix.Stat(at, &here); err != nil {
		return false, &os.PathError{Op: "stat", Path: at, Err: err}
	}
	if err := unix.Stat(up, &above); err != nil {
		return false, &os.PathError{Op: "stat", Path: up, Err: err}
	}
	return at == up || here.Dev != above.Dev, nil
}

func storedList(files []storedFile) any {
	list := struct {
		Version int          `json:"output_version"`
		Files   []storedJSON `json:"files"`
	}{1, []storedJSON{}}
	for _, f := range files {
		list.Files = append(list.Files, storedJSON{f.path, f.values[0], f.source[0], f.values[1], f.source[1]})
	}
	return list
}

// storedTable has a line for each file, or for each property of it that is wanted.
func storedTable(files []storedFile, wanted []string, heading bool) *table {
	t := &table{}
	switch {
	case !heading:
	case wanted == nil:
		t.row("PATH", "COMPRESSION", "CHECK")
	default:
		t.row("PATH", "PROPERTY", "VALUE", "SOURCE")
	}
	shown := func(text string) string { return text }
	if heading {
		shown = advice.Printable
	}
	for _, f := range files {
		if wanted == nil {
			t.row(append([]string{shown(f.path)}, f.values...)...)
			continue
		}
		for _, name := range wanted {
			i := slices.IndexFunc(properties, func(p property) bool { return p.name == name })
			t.row(shown(f.path), name, f.values[i], shown(f.source[i]))
		}
	}
	return t
}

func getProperty(path, name string) (string, error) {
	buf := make([]byte, 64)
	n, err := unix.Getxattr(path, propertyPrefix+name, buf)
	if err != nil {
		return "", propertyError(path, name, "", err)
	}
	return string(buf[:n]), nil
}
