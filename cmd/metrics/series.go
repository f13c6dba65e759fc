package metrics

// series are the names, all behind "anvilfs_"; docs/operations.md explains
// those that an operator watches.
var series = []struct {
	name, help string
	labels     []string
}{
	{"info", "The server's version; always 1.", []string{"version"}},
	{"health", "1 for the state that the mount is in.", []string{"state"}},
	{"quorum_held", "1 while a majority of the masters is attached.", nil},
	{"masters", "Masters of the configuration.", nil},
	{"masters_in_sync", "Masters that contain the last committed txg.", nil},
	{"masters_needed", "Masters that make a majority.", nil},
	{"space_bytes", "Space of the smallest attached master.", []string{"kind"}},
	{"inodes", "Files, directories and all else that has an inode.", nil},
	{"dirty_bytes", "Changes that are in memory only.", nil},
	{"dirty_limit_bytes", "Above it, writers wait.", nil},
	{"commit_failing", "1 while the last commit has failed.", nil},
	{"txg_duration_seconds", "From closing a transaction group to its being durable on a majority.", nil},
	{"txg_bytes_total", "Bytes of durable transaction groups.", nil},
	{"txg_failed_total", "Attempts to commit that failed.", nil},
	{"node_state", "1 for the state that the node is in.", []string{"node", "role", "state"}},
	{"node_state_since_timestamp_seconds", "When the node entered its state.", []string{"node"}},
	{"node_focus", "1 for the node that reads go to first.", []string{"node"}},
	{"node_lag_txgs", "Transaction groups that the node lacks, at least.", []string{"node"}},
	{"node_queue", "Requests to the node's devices that are out.", []string{"node"}},
	{"node_space_bytes", "Space of the node; 0 while it is not open.", []string{"node", "kind"}},
	{"node_bad_chains_total", "Damaged blocks found by reads.", []string{"node"}},
	{"node_repaired_chains_total", "Of those, rewritten from a verified copy.", []string{"node"}},
	{"node_request_duration_seconds", "Requests to the node's devices.", []string{"node", "op"}},
	{"node_request_failed_total", "Requests that failed.", []string{"node", "op"}},
	{"node_request_bytes_total", "Bytes moved.", []string{"node", "op"}},
	{"call_duration_seconds", "The kernel's requests.", []string{"call"}},
	{"call_failed_total", "Requests answered with EIO or ENOSPC.", []string{"call"}},
	{"call_bytes_total", "Bytes read and written.", []string{"call"}},
	{"errors_unrepaired", "Places in files that are bad and not repaired.", nil},
	{"scrub_phase", "1 for what the scrub does, or how the last one ended.", []string{"phase"}},
	{"scrub_verified_bytes", "Verified by the scrub that runs, or by the last one.", nil},
	{"scrub_expected_bytes", "In use on the members when it began, about.", nil},
	{"scrub_bad_blocks", "Blocks that it found bad.", nil},
	{"scrub_differing_leaves", "Leaves that it found intact and not the same everywhere.", nil},
	{"scrub_unrepaired", "What it could not repair.", nil},
	{"scrub_ended_timestamp_seconds", "When the last scrub ended.", nil},
	{"quota_bytes", "What a directory tree with an account takes, and may.", []string{"path", "kind"}},
	{"quota_inodes", "Inodes of a directory tree with an account, and most that it may have.", []string{"path", "kind"}},
	{"quota_full_trees", "Directory trees that are at a limit.", nil},
	{"calls_out", "The kernel's requests that are not answered yet.", nil},
}
