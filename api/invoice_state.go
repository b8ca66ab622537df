package api

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// The statuses of an invoice. A draft is finalized to open, or to paid when nothing is due; open and uncollectible
// invoices can be paid; paid and void are final. The database enforces the same edges.
const (
	statusDraft         = "draft"
	statusOpen          = "open"
	statusPaid          = "paid"
	statusVoid          = "void"
	statusUncollectible = "uncollectible"
)

// lockInvoice reads an invoice, nil when there is none, and keeps others from changing it until the transaction ends.
func lockInvoice(ctx context.Context, db querier, id string) (*invoice, error) {
	// Two statements in one round trip: a statement that waited for the lock would show the invoice as it is now with
	// the lines as they were before.
	var inv *invoice
	batch := &pgx.Batch{}
	batch.Queue("SELECT id FROM invoices WHERE id = $1 FOR NO KEY UPDATE", id)
	batch.Queue("SELECT "+invoiceColumns+" FROM invoices WHERE id = $1", id).Query(func(rows pgx.Rows) error {
		found, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByName[invoice])
		if len(found) == 1 {
			inv = found[0]
		}
		return err
	})
	if err := db.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("lock invoice: %w", err)
	}
	return inv, nil
}

func notEditable(inv *invoice) *apiError {
	return invalidRequest(codeInvoiceNotEditable, "invoice", "Invoice %s is %s and can no longer be changed.", inv.ID, inv.Status)
}

// illegalTransition is the answer to an action the invoice's status forbids.
func illegalTransition(inv *invoice, action string, from ...string) *apiError {
	return invalidRequest("", "", "Invoice %s is %s and cannot be %s; only an invoice that is %s can be.",
		inv.ID, inv.Status, action, strings.Join(from, " or "))
}

// finalizeInvoice is POST /v1/invoices/{id}/finalize.
func (s *Server) finalizeInvoice(p *params) operation {
	id := p.pathID("invoice")
	p.noAutoAdvance()
	expand := p.expand("customer")
	return func(ctx context.Context, db querier) (any, error) {
		inv, err := finalize(ctx, db, id, time.Now())
		if err != nil {
			return nil, err
		}
		object := inv.object()
		return object, expandCustomers(ctx, db, expand["customer"], object.Customer)
	}
}

// finalize gives a draft the next number of its customer and makes it open, or paid when nothing is due. The number is
// taken in the same transaction, so that none is ever lost.
func finalize(ctx context.Context, db querier, id string, at time.Time) (*invoice, error) {
	inv, err := lockInvoice(ctx, db, id)
	if err != nil {
		return nil, err
	}
	switch {
	case inv == nil:
		return nil, notFound("invoice", id)
	case inv.Status != statusDraft:
		return nil, illegalTransition(inv, "finalized", statusDraft)
	case len(inv.Lines) == 0:
		return nil, invalidRequest(codeNoLineItems, "", "Invoice %s has no lines and cannot be finalized. Add an invoice item "+
			"with invoice=%s, or create the invoice with pending_invoice_items_behavior=include.", id, id)
	}
	status := statusOpen
	if inv.AmountDue == 0 {
		status = statusPaid
	}
	finalized, err := one[invoice](ctx, db, `
		WITH customer AS (
			UPDATE customers SET next_invoice_sequence = next_invoice_sequence + 1
			WHERE id = $2
			RETURNING invoice_prefix, next_invoice_sequence - 1 AS sequence, email, name
		)
		UPDATE invoices
		SET status = $3, number_prefix = customer.invoice_prefix, number_sequence = customer.sequence,
			customer_email = customer.email, customer_name = customer.name,
			finalized_at = $4::timestamptz, paid_at = CASE WHEN $3 = 'paid' THEN $4::timestamptz END
		FROM customer
		WHERE invoices.id = $1 AND invoices.status = 'draft'
		RETURNING `+invoiceColumns, id, inv.CustomerID, status, at.UTC())
	return transitioned(finalized, id, err)
}

// transitioned checks the result of the UPDATE that moved a locked invoice.
func transitioned(inv *invoice, id string, err error) (*invoice, error) {
	if err != nil {
		return nil, fmt.Errorf("move invoice: %w", err)
	}
	if inv == nil {
		return nil, fmt.Errorf("move invoice: %s is no longer as it was locked", id)
	}
	return inv, nil
}
