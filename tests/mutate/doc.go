// Package mutate breaks the product one line at a time and demands that a
// named test notices: a test that never failed proves nothing.
//
// list.txt holds the breakages. Each says which rule it breaks, the text it
// replaces, and the test that must fail with it and pass without it:
//
//	name  promise-not-durable
//	rule  a promise is durable before the answer leaves (protocol, I4)
//	file  cluster/core
//	old   if w.msg.Ballot == n.dur.Promised {
//	new   if true {
//	test  ./tests/sim TestProtocolSeeds
//
// file may be the folder of a package. old is part of one line and stands there
// once; if it cannot, "after" gives a text that does, and the first old behind
// it is meant. test is a
// package and a pattern of go test -run, or "check NNN" for a test of the
// regression tree.
//
// No file of the tree is touched: the compiler gets the broken file by
// -overlay, and regression tests a program built so, in a directory of its own.
//
// A breakage fails the run if its text is not there or not unique, if it does
// not compile, if its test passes in spite of it, or fails without it. The
// last two are told apart, since the remedy differs: write a test, or mend one.
package mutate
