// Package media reads a volume block by block, whatever state it is in. It
// chooses the header as a mount would, but goes on with what is left where a
// mount would refuse: checkers and viewers are for damaged volumes.
//
//	devices -> Set: every header slot, the one in use
//	            +-> Read:  one block, its check code verified
//	            +-> Scan:  the leaves of a tree in order, damage passed to the caller
//	            +-> Find:  one leaf by key
//
// Nothing is ever written, and nothing is cached: what is read is what the
// device holds now. All methods are safe for concurrent use.
//
// Not here: what a healthy volume looks like (chain/fsck), changing one (chain).
package media
