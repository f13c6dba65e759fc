package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/pflag"
)

// flagTakes say what a flag takes, by the type of its value.
var flagTakes = map[string]string{
	"bool":     "nothing, or true or false",
	"int":      "a whole number",
	"uint16":   "a whole number from 0 to 65535",
	"duration": "a time like 30s, 5m or 2h",
}

// flagError says in words what is wrong with a flag, without the names of what
// looked at it.
func flagError(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	f := bad.GetFlag()
	takes, ok := flagTakes[f.Value.Type()]
	if _, counts := f.Value.(*whole); counts {
		takes += ", 0 or more"
	}
	if !ok {
		return err
	}
	return fmt.Errorf("--%s takes %s, not %q", f.Name, takes, bad.GetValue())
}

// A whole is the value of a flag that counts something.
type whole int

func (n *whole) String() string { return strconv.Itoa(int(*n)) }
func (n *whole) Type() string   { return "int" }

// Set is how the flag is given.
func (n *whole) Set(text string) error {
	v, err := strconv.ParseInt(text, 10, 32)
	if err == nil && v < 0 {
		err = errors.New("below 0")
	}
	*n = whole(max(v, 0))
	return err
}

// wholeVar is IntVarP for what cannot be negative; it is 0 if it is not given.
func wholeVar(f *pflag.FlagSet, n *int, name, short, usage string) {
	f.VarP((*whole)(n), name, short, usage)
}
