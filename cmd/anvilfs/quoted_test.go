package main

import (
	"bytes"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
)

// filled is a command in a format, with what is put into it behind its words.
var filled = regexp.MustCompile(`(?:^|[^.\w])anvilfs (?:[a-z-]+ )+(?:%[a-z] ?)+`)

// TestCommandsAreQuoted: what a text puts into a command is what a shell reads as one
// word: names of nodes and mount points may hold blanks. Rooms that cannot quote say
// MNT and NODE instead, see advice.Typed.
func TestCommandsAreQuoted(t *testing.T) {
	commands := 0
	eachFile(t, func(fset *token.FileSet, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			for i, arg := range call.Args {
				for _, nth := range putIn(wordsOf(arg)) {
					commands++
					if at := i + 1 + nth; at < len(call.Args) && !isQuoted(call.Args[at]) {
						t.Errorf("%v: argument %d is put into a command as it is", fset.Position(call.Pos()), at)
					}
				}
			}
			return true
		})
	})
	if commands < 8 {
		t.Errorf("only %d were found", commands)
	}
}

// wordsOf is the text of a string literal, or of several that are added; "" = it is
// something else.
func wordsOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	case *ast.BinaryExpr:
		return wordsOf(e.X) + wordsOf(e.Y)
	}
	return ""
}

// putIn counts from 0 which of a format's arguments are put into commands.
func putIn(format string) (list []int) {
	for _, at := range filled.FindAllStringIndex(format, -1) {
		command := strings.TrimLeft(format[at[0]:at[1]], " ('`")
		if words := strings.Fields(command); slices.Contains(notCommands, words[1]) {
			continue
		}
		before := strings.Count(strings.ReplaceAll(format[:at[0]], "%%", ""), "%")
		for i := range strings.Count(command, "%") {
			list = append(list, before+i)
		}
	}
	return list
}

// isQuoted reports whether an argument is quoted, or the name of a command.
func isQuoted(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CallExpr:
		switch fn := e.Fun.(type) {
		case *ast.Ident:
			return fn.Name == "quote"
		case *ast.SelectorExpr:
			return fn.Sel.Name == "Quote"
		}
	case *ast.SelectorExpr:
		x, ok := e.X.(*ast.Ident)
		return ok && x.Name == "v" && e.Sel.Name == "name" // of a verb
	}
	return false
}

// What newfs says at its end can be typed.
func TestNewfsSaysWhatToType(t *testing.T) {
	var b bytes.Buffer
	list := []*newMember{
		{member: member{name: "a disk"}, result: &chain.FormatResult{}},
		{member: member{name: "b"}, result: &chain.FormatResult{}},
	}
	if err := (&newfs{label: "L@B"}).report(&b, list); err != nil {
		t.Fatal(err)
	}
	if want := `Mount it with: anvilfs mount 'a disk,b@L\@B' DIR` + "\n"; !strings.HasSuffix(b.String(), want) {
		t.Errorf("%q, want ...%q", b.String(), want)
	}
}
