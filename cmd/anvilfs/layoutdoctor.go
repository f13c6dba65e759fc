package main

import (
	"context"
	"time"

	"github.com/anvilfs/anvilfs/cmd/doctor"
	"github.com/anvilfs/anvilfs/cmd/layout"
)

// layoutFindings are what doctor says of the mounts there are. Those that do
// not answer at once are for status.
func layoutFindings(ctx context.Context) (list []doctor.Finding) {
	const patience = 2 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	dirs, err := mountsOr(nil)
	if err != nil {
		return nil
	}
	for _, l := range look(ctx, dirs, human) {
		if l.err != nil {
			continue
		}
		for _, f := range l.st.Layout {
			switch f.Level {
			case layout.Warning:
				list = append(list, doctor.Finding{Name: l.dir, Level: doctor.Warning, What: f.What, Remedy: f.Remedy})
			case layout.Note:
				list = append(list, doctor.Finding{Name: l.dir, Level: doctor.Note, What: f.What, Remedy: f.Remedy})
			}
		}
	}
	return list
}
