// Package crash asks of every state a power cut can leave whether a filesystem
// on a pool keeps its word: system calls, as fs makes them, and what is done to
// members. It owns shapes of clusters, calls with a model of what they mean, and
// the judge of one image; chain/crashtest cuts and counts.
//
//	calls --> fs.FS --> cluster.Pool --> members --> Tap --> images of all members
//	  |                                                          |
//	  +--> model: one state per call -------------------------> judge
//
// Of each image it demands that:
//
//   - every header slot of every member that decodes reaches only intact blocks;
//   - the pool opens, nodes that are behind can be resynced, and the filesystem
//     is as the last call acknowledged by a sync left it, or a later one that
//     had begun: names, links, content, sizes, modes, times, attributes. So each
//     call is there as a whole or not at all, on all its files;
//   - another call can be made and synced, and is there when the pool is opened
//     again; of each member fsck has nothing to say then, and all members in
//     sync are at one position. Of every twentieth image, that is cut and judged
//     once more.
//
// Members work side by side. Between two syncs, how the events of one lie to
// those of another is drawn by lot; a sync is acknowledged when a majority had
// done all of it, and the rest of the others' work comes later.
//
// Two files tell the truth about a call: the model, written from what POSIX says,
// is compared with the filesystem after each call while nothing is cut. What the
// filesystem shows then, with times, is what an image must show.
//
// A walk (walk_test.go) does all of that and more in an order drawn by lot, and
// loses power in the middle of it now and then: all members, and the process with
// them, or some of them under a process that goes on. A member that grows is grown again in each image; a cache is there in each
// image with what the cut left of it, and must be of use.
//
// The return of a branch (merge.go) has its own judge: of a merge that is under
// way each file is as before or as after it, the branch ends only when all of it
// is there, and whatever a cut leaves comes to the same end when it is mounted.
//
// Not here: one volume and its operations (chain/crashtest), errors of devices
// and messages (cluster/sim), the kernel (tests/NNN).
package crash
