// Package metered counts what a device is asked for and how long it takes.
//
//	caller -> Device (counts, times) -> device
//	            └-> Meter, which outlives the device: a member that is opened
//	                again goes on with its numbers
//
// A Meter may serve several devices at once, as those of one volume.
//
// Not here: what the numbers mean for a node (cluster).
package metered
