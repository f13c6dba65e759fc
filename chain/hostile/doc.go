// Package hostile makes volumes that are wrong in every way a writer with
// right check codes could make them wrong, and demands that whoever meets one
// stays upright. A random flip is caught by a code; this is about what is not:
// memory that was damaged before it was written, another program's bugs, and
// images made by an enemy.
//
//	sound volume --> Plan: every block, and every place that refers to it
//	                  |
//	seed ---------> Image: some of Mutations() done to a copy, then all codes
//	                  |    made right again from the bottom up to the header
//	                  v
//	                Check: read all, change and read again, fsck, show
//
// Of each image Check demands that:
//
//   - nothing panics or runs without end: reads are counted on the device, and
//     a bound that no sound volume of the kind comes near ends the case;
//   - the device is asked for nothing outside of it;
//   - an error is ErrCorrupt, or another sentinel that says what to do, and a
//     damaged block is named; what a PFS that was not touched holds, reads as
//     before or the super-root says why not;
//   - what a commit acknowledged is there after opening again;
//   - changing the volume harms no PFS that was whole before (see below);
//   - fsck does not call a volume clean that has one of the damages it knows.
//
// What is trusted: a header that carries our own mark vouches for its freemap
// and its tids. If a lie there comes under that mark, blocks may be taken for
// free; fsck names it. Half of all images carry the mark of somebody else, and
// then nothing in them is trusted: the freemap is compared with the tree first.
//
// Images are functions of the volume's name and a seed. Their own code is the
// only thing here that writes to a device behind chain's back.
//
// Not here: what a power cut leaves (crashtest), bytes without a right code
// (the fuzz targets of ondisk and cluster).
package hostile
