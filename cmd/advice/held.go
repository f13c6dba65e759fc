package advice

import (
	"fmt"
	"strings"
)

// heldNamed is how many snapshots are named.
const heldNamed = 4

// Held is what to say of deleted snapshots of which something is still open.
func Held(names []string) []Advice {
	what := "A deleted snapshot is still in use: " + strings.Join(names, ", ") + "."
	switch {
	case len(names) == 0:
		return nil
	case len(names) > 1:
		named := strings.Join(names[:min(len(names), heldNamed)], ", ")
		if len(names) > heldNamed {
			named += " and others"
		}
		what = fmt.Sprintf("%d deleted snapshots are still in use: %s.", len(names), named)
	}
	return []Advice{{Note, what, "", "Their space comes free once the files in them that are open are closed.", ""}}
}
