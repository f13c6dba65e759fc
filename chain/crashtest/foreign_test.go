package crashtest

import "testing"

// TestForeign starts from volumes that DragonFly wrote: the first commit brings
// their freemap up to date, and what they hold must survive all that follows.
func TestForeign(t *testing.T) {
	for _, name := range []string{"small", "pfs", "bulkfree"} {
		t.Run(name, func(t *testing.T) {
			e := &Explorer{Limit: 2}
			if err := e.Explore(t.Context(), Run{Workload: foreignWorkload(), Shape: shape(t, name), Seed: 1, Max: 1}); err != nil {
				t.Fatal(err)
			}
			for _, f := range e.Failures() {
				t.Error(f)
			}
			t.Logf("%d images", e.Counts().Images)
		})
	}
}
