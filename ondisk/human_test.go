package ondisk

import "testing"

func TestHuman(t *testing.T) {
	for _, c := range []struct {
		n            uint64
		human, exact string
	}{
		{0, "0 B", "0 bytes"},
		{1023, "1023 B", "1023 bytes"},
		{1024, "1 KiB", "1 KiB (1024 bytes)"},
		{419430400, "400 MiB", "400 MiB (419430400 bytes)"},
		{2147483647, "2 GiB", "2 GiB (2147483647 bytes)"},
		{3 << 39, "1.5 TiB", "1.5 TiB (1649267441664 bytes)"},
	} {
		if h, e := Human(c.n), Exact(c.n); h != c.human || e != c.exact {
			t.Errorf("%d: %q, %q", c.n, h, e)
		}
	}
}
