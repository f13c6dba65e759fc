package main

import (
	"path/filepath"
	"strings"
)

// personality turns the ways in which other programs call us into the
// arguments of a subcommand. Installed links choose it by their name:
//
//	mount.fuse.anvilfs, mount.anvilfs     SRC DIR [-sfnvw] [-t TYPE] [-o OPTIONS]
//	umount.fuse.anvilfs, umount.anvilfs   DIR [-nlfvr] [-t TYPE]
//	mkfs.anvilfs                          [-vV] and what newfs takes
//	fsck.anvilfs, fsck.fuse.anvilfs       [-aAfnprvVy] [-C[FD]] and what fsck takes
//
// Under any other name, "SRC DIR -o OPTIONS" is how mount.fuse3 calls the
// program that a source "anvilfs#SRC" names.
func personality(argv []string) []string {
	args := argv[1:]
	verb, rest, found := strings.Cut(filepath.Base(argv[0]), ".")
	if found && isAnvil(strings.Replace("fuse."+rest, "fuse.fuse", "fuse", 1)) {
		switch verb {
		case "mount":
			return append([]string{"mount"}, mountHelperArgs(args)...)
		case "umount":
			return append([]string{"umount"}, dropSwitches(args, "nvrf", "l", "tN")...)
		case "mkfs":
			return append([]string{"newfs"}, dropSwitches(args, "vV", "fqn", "")...)
		case "fsck":
			return append([]string{"fsck"}, dropSwitches(args, "aAfnprvVTMC0123456789", "qy", "")...)
		}
	}
	if bareMount(args) {
		return append([]string{"mount"}, mountHelperArgs(args)...)
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

// mountHelperArgs translates the switches of mount(8), which mean other
// things there than they do in our own mount command.
func mountHelperArgs(args []string) []string {
	var out []string
	for _, a := range dropSwitches(args, "nvw", "sf", "tN") {
		switch a {
		case "-f":
			a = "--fake"
		case "-s":
			a = "--sloppy"
		}
		out = append(out, a)
	}
	return out
}

// dropSwitches leaves out the letters of plain, also in words like -nv, and
// those of valued with their value. Letters of keep in such words stay, each
// as a word of its own.
func dropSwitches(args []string, plain, keep, valued string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case len(a) < 2 || a[0] != '-' || a[1] == '-':
			out = append(out, a)
		case len(a) == 2 && strings.Contains(valued, a[1:]):
			i++
		case len(a) == 2 && a == "-o" || a == "-L" || a == "-s" && valued == "":
			out = append(out, args[i:min(i+2, len(args))]...)
			i++
		case strings.Trim(a[1:], plain+keep) != "":
			out = append(out, a)
		default:
			for _, c := range a[1:] {
				if !strings.ContainsRune(plain, c) {
					out = append(out, "-"+string(c))
				}
			}
		}
	}
	return out
}
