package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A SampleSummary is the result of [Server.LoadSampleData].
type SampleSummary struct {
	Loaded    bool   // false when the database had customers already and was left as it is
	InvoiceID string // the newest invoice, "" when there is none
}

// A sampleCustomer is a customer of the sample data with invoices in various statuses.
type sampleCustomer struct {
	name, email string
	invoices    []sampleInvoice
}

type sampleInvoice struct {
	status string // the one the invoice is left in
	lines  []sampleLine
}

type sampleLine struct {
	description string
	amount      int64 // cents
}

func sampleCustomers() []sampleCustomer {
	return []sampleCustomer{
		{"Ada Lovelace", "ada@example.com", []sampleInvoice{
			{statusPaid, []sampleLine{{"Analytical engine, September", 12_000}, {"Punched cards, 500", 2_500}}},
			{statusOpen, []sampleLine{{"Analytical engine, October", 12_000}}},
		}},
		{"Grace Hopper", "grace@example.com", []sampleInvoice{
			{statusPaid, []sampleLine{{"Compiler licence", 49_900}, {"First order discount", -4_990}}},
			{statusDraft, []sampleLine{{"Debugging, 3 hours", 27_000}}},
		}},
		{"Edgar Codd", "edgar@example.com", []sampleInvoice{
			{statusOpen, []sampleLine{{"First normal form", 10_000}, {"Third normal form", 30_000}}},
		}},
	}
}

// LoadSampleData fills an empty database with three customers and a few draft, open and paid invoices, in one
// transaction and by the code that serves requests. It does nothing when there are customers.
func (s *Server) LoadSampleData(ctx context.Context) (SampleSummary, error) {
	var summary SampleSummary
	_, err := s.transactWithRetry(ctx, idempotencyKey{}, func(ctx context.Context, db querier) (any, error) {
		// Two programs that start at once must not both find the database empty.
		if _, err := db.Exec(ctx, "LOCK TABLE customers IN SHARE ROW EXCLUSIVE MODE"); err != nil {
			return nil, fmt.Errorf("lock customers: %w", err)
		}
		err := db.QueryRow(ctx, "SELECT NOT EXISTS (SELECT FROM customers)").Scan(&summary.Loaded)
		if err != nil {
			return nil, fmt.Errorf("look for customers: %w", err)
		}
		if summary.Loaded {
			for _, sample := range sampleCustomers() {
				if err := s.insertSample(ctx, db, sample); err != nil {
					return nil, err
				}
			}
		}
		err = db.QueryRow(ctx, "SELECT id FROM invoices ORDER BY id DESC LIMIT 1").Scan(&summary.InvoiceID)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return nil, fmt.Errorf("find newest invoice: %w", err)
		}
		return nil, nil
	})
	if err != nil {
		return SampleSummary{}, err
	}
	return summary, nil
}

func (s *Server) insertSample(ctx context.Context, db querier, sample sampleCustomer) error {
	created, err := s.insertCustomer(ctx, db, customerChange{
		name:  textChange{given: true, text: sample.name},
		email: textChange{given: true, text: sample.email},
	}, "")
	if err != nil {
		return err
	}
	for _, invoice := range sample.invoices {
		if err := s.insertSampleInvoice(ctx, db, created.ID, invoice); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) insertSampleInvoice(ctx context.Context, db querier, customerID string, sample sampleInvoice) error {
	inv, err := s.insertInvoice(ctx, db, newInvoice{customerID: customerID, collectionMethod: methodCharge})
	if err != nil {
		return err
	}
	for _, line := range sample.lines {
		_, err := s.insertInvoiceItem(ctx, db, newInvoiceItem{
			customerID:  customerID,
			invoiceID:   inv.ID,
			amount:      line.amount,
			quantity:    1,
			description: textChange{given: true, text: line.description},
		})
		if err != nil {
			return err
		}
	}
	if sample.status == statusDraft {
		return nil
	}
	if _, err := finalize(ctx, db, inv.ID, time.Now()); err != nil || sample.status == statusOpen {
		return err
	}
	_, err = s.pay(ctx, db, inv.ID, payment{})
	return err
}
