package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Properties of files are extended attributes: anyone who may write the file
// may set them, and setfattr(1) works as well.
const propertyPrefix = "anvilfs."

// properties are those that exist, with their values as they are explained.
var properties = []struct{ name, values string }{
	{"compression", "none, autozero, lz4, zlib or zlib:1 to zlib:9"},
	{"check", "iscsi32, xxhash64, sha192, or none, which finds no damage"},
}

const propertyHelp = `They hold for what is written from then on, and what is made in a directory
inherits its own; -r sets them on everything that is below, too.

  compression  none, autozero (zeros become holes), lz4, zlib, zlib:1 ... zlib:9
  check        iscsi32, xxhash64, sha192, or none: damage is not found then`

func setCommand() *cobra.Command {
	var recursive bool
	c := &cobra.Command{
		Use:   "set PROPERTY=VALUE PATH...",
		Short: "Set how files are stored: compression and check codes",
		Long:  "Set properties of files and directories.\n\n" + propertyHelp,
		Args:  cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			name, value, ok := strings.Cut(args[0], "=")
			if !ok {
				return usageError("%q is not PROPERTY=VALUE: see anvilfs set --help", args[0])
			}
			return setProperties(name, value, args[1:], recursive)
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "and everything below")
	return c
}

// setOne is a command for one property, as of HAMMER2's own tools.
func setOne(use, property, short string) *cobra.Command {
	var recursive bool
	c := &cobra.Command{
		Use:   use + " VALUE PATH...",
		Short: short,
		Long:  short + ".\n\n" + propertyHelp,
		Args:  cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return setProperties(property, args[0], args[1:], recursive)
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "and everything below")
	return c
}

// A storedJSON is a file as get --json tells of it.
type storedJSON struct {
	Path        string `json:"path"`
	Compression string `json:"compression"`
	Check       string `json:"check"`
}

func getCommand() *cobra.Command {
	var script, asJSON bool
	c := &cobra.Command{
		Use:   "get PATH...",
		Short: "Show how files are stored",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			t, out := &table{}, c.OutOrStdout()
			if !script {
				t.row("PATH", "COMPRESSION", "CHECK")
			}
			list := struct {
				Version int          `json:"output_version"`
				Files   []storedJSON `json:"files"`
			}{Version: 1}
			for _, path := range args {
				row := []string{path}
				for _, p := range properties {
					value, err := getProperty(path, p.name)
					if err != nil {
						return err
					}
					row = append(row, value)
				}
				t.row(row...)
				list.Files = append(list.Files, storedJSON{row[0], row[1], row[2]})
			}
			switch {
			case asJSON:
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				return e.Encode(list)
			case script:
				for _, row := range t.rows {
					fmt.Fprintln(out, strings.Join(row, "\t"))
				}
			default:
				t.print(out)
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&script, "script", "H", false, "no heading, tabs between, for scripts")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func getProperty(path, name string) (string, error) {
	buf := make([]byte, 64)
	n, err := unix.Getxattr(path, propertyPrefix+name, buf)
	if err != nil {
		return "", propertyError(path, name, "", err)
	}
	return string(buf[:n]), nil
}

func setProperties(name, value string, paths []string, recursive bool) error {
	for _, root := range paths {
		if !recursive {
			if err := setProperty(root, name, value); err != nil {
				return err
			}
			continue
		}
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.Type().IsRegular() || d.IsDir() {
				return setProperty(path, name, value)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func setProperty(path, name, value string) error {
	if err := unix.Setxattr(path, propertyPrefix+name, []byte(value), 0); err != nil {
		return propertyError(path, name, value, err)
	}
	return nil
}

// propertyError says in words what an errno means here.
func propertyError(path, name, value string, err error) error {
	values := ""
	for _, p := range properties {
		if p.name == name {
			values = p.values
		}
	}
	switch {
	case values == "":
		return usageError("there is no property %q: compression and check", name)
	case errors.Is(err, unix.EINVAL):
		return usageError("%s %q: %s", name, value, values)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENODATA):
		return fmt.Errorf("%s is not a file or directory of anvilfs", path)
	}
	return &os.PathError{Op: "property " + name, Path: path, Err: err}
}
