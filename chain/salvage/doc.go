// Package salvage copies files out of a volume, whatever state it is in, to a
// directory of another filesystem.
//
//	header slot -> PFS -> path -> directory, file, link ... -> DIR
//
// It trusts nothing: tables are read one by one with their check codes, what
// is damaged is left out and told, and the rest goes on. An older header slot
// gives the files as they were a few commits ago, as far as their blocks were
// not used again. If the super-root or the root of a PFS cannot be read, the PFS is
// entered from the newest older header that still leads to it, and if none does,
// Deleted looks for roots and inodes on the whole volume. Nothing is ever written to the volume, and nothing outside the
// directory: it is entered as os.Root, and names that are no names are refused.
//
// Not here: judging the volume (chain/fsck), showing its bytes (chain/show).
package salvage
