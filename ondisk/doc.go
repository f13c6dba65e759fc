// Package ondisk is bytes: the HAMMER2 media format, and the devices it lies
// on. It decodes, validates and encodes every structure, computes check codes,
// compresses file data, and knows nothing of trees.
//
//	volume header, 64 KiB, up to four slots 2 GiB apart; the newest good one counts
//	 |
//	 +- sroot blockset ---> super-root inode
//	 |                       +--> PFS root inodes, by hash of the label
//	 |                             +--> inodes, by number        (bit 63 clear)
//	 |                             |     +--> file: data, by byte offset
//	 |                             |     +--> directory: entries, by hash of the name
//	 |                             +--> entries of the root directory (bit 63 set)
//	 +- freemap blockset -> nodes -> leaves, one per GiB
//
// Every arrow is a Blockref: address, size, key range and check code of what
// it points at. Any arrow may pass through indirect blocks, which are arrays
// of blockrefs and nothing else. So the header's own codes cover everything.
//
// Invariants:
//   - Decode survives any bytes, returns only what Validate accepts, and uses
//     memory in proportion to its input. Damage is an ErrCorrupt.
//   - Encode panics on what Validate rejects: that is our bug.
//   - Encode(Decode(x)) is x, bytes without a meaning included; what is not
//     ours to know is kept for those who know it. Only the order of EMPTY
//     elements in block arrays is not kept.
//   - No block is larger than MaxBlock, no file block decodes to more than
//     LogicalBlock, no check code is over less than a whole stored block.
//
// Data blocks are encoded once, before they go to several nodes: EncodeData
// compresses, pads and computes the code; the result is immutable.
//
// Locks: none are held across a call into this package. The pools of buffers
// are safe for concurrent use, as is every function.
//
// Crash: nothing here is durable by itself. A Device promises that writes
// which returned before Flush was called survive if Flush returned nil, and
// nothing else: order, single writes and blocks may be torn at BlockSize.
//
// Devices: filedev is real storage, memdev memory; faultdev fails on demand,
// crashdev shows every state a power cut can leave. devicetest is the suite
// they all pass.
//
// Not here: where blocks go (chain), which copy is right (cluster).
package ondisk
