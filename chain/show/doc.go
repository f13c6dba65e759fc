// Package show prints what is on a volume as annotated text: for people who
// want to see the media, whatever state it is in.
//
//	Volume   header slots, field by field
//	PFSs     the list of PFSs with their numbers
//	Freemap  free space by zone and segment
//	Chain    the tree of blockrefs, to a depth
//	Find     the way from the header to the block at an address
//	Inode    one inode with its array, entries or attributes
//
// What cannot be read is printed as "!! why" in its place, and the rest goes
// on. An error is returned only if there is nothing to show, the writer fails
// or the context ends. Nothing is written to the volume.
//
// Not here: whether what is shown is right (chain/fsck).
package show
