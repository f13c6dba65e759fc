// Package manual writes the man pages from the command tree, so that they say
// what the program says.
//
//	cobra.Command: Use, Short, Long, flags ──┐
//	Extra: exit codes, files, see also       ├─> Page -> roff, section 8
//	names of helpers ────────────────────────┘
//
// Long texts are paragraphs; lines that begin with two blanks are shown as
// they are.
//
// Not here: the guide and the operations page (docs).
package manual
