package advice

import "testing"

func TestHeld(t *testing.T) {
	const soon = "\n  soon Their space comes free once the files in them that are open are closed."
	for _, c := range []struct {
		names []string
		want  string
	}{
		{nil, "nothing"},
		{[]string{"a"}, "note A deleted snapshot is still in use: a." + soon},
		{[]string{"a", "b"}, "note 2 deleted snapshots are still in use: a, b." + soon},
		{[]string{"a", "b", "c", "d", "e"}, "note 5 deleted snapshots are still in use: a, b, c, d and others." + soon},
	} {
		if got := show(Held(c.names)); got != c.want {
			t.Errorf("%v:\n%s", c.names, got)
		}
	}
}
