// Package advice turns a status into what a tired person needs: what is wrong,
// worst first, what is at risk, what happens by itself, and what to type next.
//
// It is a function of the status alone, without I/O and clocks; its cases are
// in testdata/advice.txt.
//
// Not here: how it is printed (cmd/anvilfs), what is true (cluster).
package advice
