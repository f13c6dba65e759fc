package main

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/anvilfs/anvilfs/fs"
)

// Properties of files are extended attributes: anyone who may write the file
// may set them, and setfattr(1) works as well.
const propertyPrefix = "anvilfs."

// A property is known by its name.
type property struct{ name, values string }

// properties are those that exist, with their values as they are explained.
var properties = []property{
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
		Use:   "set PROPERTY=VALUE... PATH...",
		Short: "Set how files are stored: compression and check codes",
		Long:  "Set properties of files and directories.\n\n" + propertyHelp,
		Args:  atLeast(2, "PROPERTY=VALUE, and the files and directories that are to have it"),
		RunE: func(c *cobra.Command, args []string) error {
			var set []setting
			for len(args) > 0 {
				name, value, ok := strings.Cut(args[0], "=")
				if _, err := os.Lstat(args[0]); !ok || len(set) > 0 && !isPropertyName(name) && err == nil {
					break
				}
				set = append(set, setting{name, value})
				args = args[1:]
			}
			switch {
			case len(set) == 0:
				return usageError("%q is not PROPERTY=VALUE: see anvilfs set --help", args[0])
			case len(args) == 0:
				return usageError("anvilfs set takes files and directories behind PROPERTY=VALUE: see anvilfs set --help")
			}
			return setProperties(set, args, recursive)
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
		Args:  atLeast(2, "a value, and the files and directories that are to have it"),
		RunE: func(c *cobra.Command, args []string) error {
			return setProperties([]setting{{property, args[0]}}, args[1:], recursive)
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "and everything below")
	return c
}

// A setting is a property with the value that it is to have.
type setting struct{ name, value string }

// setProperties sets all on all paths. What no file could have is refused before
// anything is changed.
func setProperties(set []setting, paths []string, recursive bool) error {
	for _, p := range set {
		if err := fs.CheckProperty(propertyPrefix+p.name, p.value); err != nil {
			return propertyError("", p.name, p.value, unix.EINVAL)
		}
	}
	for _, root := range paths {
		err := walkStored(root, recursive, func(path string) error {
			for _, p := range set {
				if err := unix.Setxattr(path, propertyPrefix+p.name, []byte(p.value), 0); err != nil {
					return propertyError(path, p.name, p.value, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// walkStored calls fn for a path, or for the files and directories from it on.
func walkStored(root string, recursive bool, fn func(path string) error) error {
	if !recursive {
		return fn(root)
	}
	return filepath.WalkDir(root, func(path string, d iofs.DirEntry, err error) error {
		if err == nil && (d.Type().IsRegular() || d.IsDir()) {
			err = fn(path)
		}
		return err
	})
}

func isPropertyName(name string) bool {
	return slices.ContainsFunc(properties, func(p property) bool { return p.name == name })
}

// propertyError says in words what an errno means here.
func propertyError(path, name, value string, err error) error {
	values := ""
	if i := slices.IndexFunc(properties, func(p property) bool { return p.name == name }); i >= 0 {
		values = properties[i].values
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
