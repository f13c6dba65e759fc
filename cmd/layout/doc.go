// Package layout says of a set of members what it tolerates less than it seems
// to: copies that are lost together, masters that add nothing, sizes that bound
// each other.
//
//	paths of members -> System (sysfs, stat): the disks below each -> Judge: findings
//
// Judge is a function of facts. Finding them reads sysfs and asks stat(2) about
// each path, which can hang with a filesystem below an image file: callers who
// must not wait look in the background.
//
// Files on one filesystem are how anvilfs is tried out. They are told of as a
// fact (Info), never as something wrong.
//
// Not here: what is wrong with members that are there (cmd/advice).
package layout
