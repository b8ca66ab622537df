package pgwire_test

import (
	"testing"

	"github.com/billproxy/billproxy/pool/pgwire"
)

func TestParseError(t *testing.T) {
	tests := []struct {
		name string
		body string
		want pgwire.Error
	}{
		{name: "nothing", want: pgwire.Error{Severity: "ERROR"}},
		{name: "no fields", body: "\x00", want: pgwire.Error{Severity: "ERROR"}},
		{
			name: "as PostgreSQL sends it",
			body: "SFATAL\x00VFATAL\x00C57P01\x00Mterminating connection due to administrator command\x00Fpostgres.c\x00L3190\x00RProcessInterrupts\x00\x00",
			want: pgwire.Error{
				Severity: "FATAL", SQLState: "57P01", Message: "terminating connection due to administrator command",
				Routine: "ProcessInterrupts",
			},
		},
		{
			name: "the unlocalized severity counts",
			body: "SFATAL\x00VERROR\x00\x00", want: pgwire.Error{Severity: "ERROR"},
		},
		{
			name: "a translated severity",
			body: "VPANIC\x00SPANIK\x00\x00", want: pgwire.Error{Severity: "PANIC"},
		},
		{
			name: "before 9.6", body: "SFATAL\x00C57P03\x00\x00", want: pgwire.Error{Severity: "FATAL", SQLState: "57P03"},
		},
		{
			name: "detail and hint", body: "Dwhy\x00Hwhat to do\x00\x00",
			want: pgwire.Error{Severity: "ERROR", Detail: "why", Hint: "what to do"},
		},
		{
			name: "cut off in a value", body: "VFATAL\x00C57P01\x00Mtermin", want: pgwire.Error{Severity: "FATAL", SQLState: "57P01"},
		},
		{name: "cut off after a field code", body: "VFATAL\x00C", want: pgwire.Error{Severity: "FATAL"}},
		{name: "what follows the end is ignored", body: "VFATAL\x00\x00C57P01\x00", want: pgwire.Error{Severity: "FATAL"}},
		{name: "unknown field", body: "zzz\x00C57P01\x00\x00", want: pgwire.Error{Severity: "ERROR", SQLState: "57P01"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := pgwire.ParseError([]byte(test.body)); *got != test.want {
				t.Errorf("got %+v, want %+v", *got, test.want)
			}
		})
	}
}

// TestErrorZeroBytes: what comes from a client, say a user's name, cannot end a
// field early and forge another.
func TestErrorZeroBytes(t *testing.T) {
	b := pgwire.AppendError(nil, &pgwire.Error{Severity: pgwire.SeverityError, SQLState: "28000", Message: "a\x00SFATAL\x00"})
	got := pgwire.ParseError(b[pgwire.HeaderBytes:])
	want := pgwire.Error{Severity: "ERROR", SQLState: "28000", Message: "aSFATAL"}
	if *got != want {
		t.Errorf("got %+v, want %+v", *got, want)
	}
}

func TestErrorIsFatal(t *testing.T) {
	for severity, want := range map[pgwire.Severity]bool{
		pgwire.SeverityError: false, pgwire.SeverityFatal: true, pgwire.SeverityPanic: true, "WARNING": false,
	} {
		e := &pgwire.Error{Severity: severity, SQLState: "57P01", Message: "gone"}
		if got := e.IsFatal(); got != want {
			t.Errorf("%s is fatal: %t, want %t", severity, got, want)
		}
		if got := e.Error(); got != string(severity)+" 57P01: gone" {
			t.Errorf("text %q", got)
		}
	}
}
