// Package crashtest asks of every state a power cut can leave whether
// chain.Volume keeps its word. It owns workloads, a model of what they do, and
// the judge of one image:
//
//	workload --> chain.Volume --> Tap --> crashdev --> images, many per flush
//	    |                                                |
//	    +--> model: one state per transaction --------> judge
//
// Of each image it demands that:
//
//   - every header slot that decodes reaches only intact blocks, the newest
//     one only chunks that are allocated in its freemap;
//   - it opens, and holds exactly one of two states: that of the last
//     transaction acknowledged before the cut or that of the one in flight;
//     all of its PFSs, their files and their state entries, and nothing else;
//   - a state entry's T is the mirror_tid of its PFS's root;
//   - it takes another transaction, all of the above holds again, and fsck has
//     nothing to say. Of every twentieth image, that is cut and judged once more.
//
// Runs are the same for the same workload, shape and seed: Tap passes on the
// writes between two flushes in order of address, since between flushes order
// means nothing, and notes a flush while a write is under way.
//
// Explorer, Tap and Recording know nothing of volumes: tests/crash has others
// to judge. Judges run in parallel on images of their own; the explorer's lock
// guards the table of images seen and the counts.
//
// Not here: damage that is not a power cut (faultdev), what an image of
// somebody else's looks like (golden), members of a cluster (tests/crash).
package crashtest
