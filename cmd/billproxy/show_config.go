package main

import (
	"context"
	"fmt"
	"text/tabwriter"
)

// runConfig prints every variable. Secrets are masked.
func runConfig(_ context.Context, e *environment) error {
	table := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "VARIABLE\tVALUE\tDEFAULT\tTYPE\tMEANING")
	for _, field := range e.config.fields() {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n",
			field.name, orDash(field.value.String()), orDash(field.standard), field.value.kind(), field.meaning)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(e.stdout, "\nA duration is seconds (120) or has units (90s, 10m, 1h).\n")
	return err
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
