package main

import (
	"path/filepath"
	"strings"
)

// personality turns the ways in which other programs call us into the
// arguments of a subcommand. Installed links choose it by their name:
//
//	mount.fuse.anvilfs, mount.anvilfs     SRC DIR [-sfvnN] [-o opts]
//	umount.fuse.anvilfs, umount.anvilfs   DIR [-nlfvr] [-t type]
//	mkfs.anvilfs                          newfs
//	fsck.anvilfs, fsck.fuse.anvilfs       fsck
//
// Under any other name, "SRC DIR -o opts" is how mount.fuse3 calls the program
// that a source "anvilfs#SRC" names.
func personality(argv []string) []string {
	args := argv[1:]
	name := filepath.Base(argv[0])
	verb, rest, found := strings.Cut(name, ".")
	if found && (rest == "anvilfs" || rest == "fuse.anvilfs" || rest == "fuseblk.anvilfs") {
		switch verb {
		case "mount":
			return append([]string{"mount"}, helperArgs(args)...)
		case "umount":
			return append([]string{"umount"}, args...)
		case "mkfs":
			return append([]string{"newfs"}, args...)
		case "fsck":
			return append([]string{"fsck"}, args...)
		}
	}
	if bareMount(args) {
		return append([]string{"mount"}, helperArgs(args)...)
	}
	return args
}

// bareMount recognises "SRC DIR -o opts" without a subcommand: the source has
// a label or names a device, which no subcommand does.
func bareMount(args []string) bool {
	if len(args) < 2 || strings.HasPrefix(args[0], "-") || strings.HasPrefix(args[1], "-") {
		return false
	}
	return strings.ContainsAny(args[0], "@/,")
}

// helperArgs translates the switches of mount(8), which mean other things
// there than they do in our own mount command.
func helperArgs(args []string) []string {
	out := []string{"--helper"}
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "-o" || a == "-t" || a == "-N":
			if i++; i == len(args) {
				return append(out, a) // cobra says what is missing
			}
			if a == "-o" {
				out = append(out, "-o", args[i])
			}
		case len(a) > 1 && a[0] == '-' && strings.Trim(a[1:], "sfvnw") == "":
			// sloppy and fake (-f: do everything but the mount)
			if strings.Contains(a, "f") {
				out = append(out, "--fake")
			}
			if strings.Contains(a, "s") {
				out = append(out, "--sloppy")
			}
		default:
			out = append(out, a)
		}
	}
	return out
}
