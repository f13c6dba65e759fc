package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/cmd/doctor"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

func doctorCommand() *cobra.Command {
	var asJSON, all bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine lacks for mounting, and how to get it",
		Long: `Doctor looks at the kernel, the helpers of mount(8), limits and services, and at
what the members of mounts tolerate less than it seems, worst first, each line with
its remedy. It changes nothing.

It ends with 0 if nothing is wrong, 1 if mounts work but something is lost, and
2 if mounts do not work here.`,
		Args: exactly(0, "no words"),
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := doctor.Here()
			if err != nil {
				return err
			}
			r := m.Examine(layoutFindings(c.Context())...)
			if asJSON {
				err = rawjson.Write(c.OutOrStdout(), &r, "  ")
			} else {
				err = printFindings(c.OutOrStdout(), &r, all)
			}
			if err != nil {
				return err
			}
			return doctorCode(r.Worst)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print everything as JSON")
	c.Flags().BoolVarP(&all, "all", "a", false, "also what is as it should be")
	return c
}

func printFindings(w io.Writer, r *doctor.Report, all bool) error {
	t, fine := &table{}, 0
	for _, f := range r.Findings {
		if f.Level == doctor.OK && !all {
			fine++
			continue
		}
		t.row(string(f.Level), f.Name, f.What)
		if f.Remedy != "" {
			t.row("", "", "-> "+f.Remedy)
		}
	}
	t.print(w)
	if fine > 0 {
		if _, err := fmt.Fprintf(w, "%d more are as they should be: anvilfs doctor --all lists them\n", fine); err != nil {
			return err
		}
	}
	return nil
}

func doctorCode(worst doctor.Level) error {
	switch worst {
	case doctor.Fatal:
		return &exitError{code: checkCritical}
	case doctor.Warning:
		return &exitError{code: checkWarning}
	}
	return nil
}
