package api

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// The payment methods there are without a payment provider: they always do the same.
const (
	paymentMethodSucceeds = "pm_card_visa"
	paymentMethodDeclines = "pm_card_chargeDeclined"
)

// A payment says how an invoice is paid: "" stands for outside of this system, for example by bank transfer.
type payment struct {
	method string
}

// attempts returns how many attempts to collect money the payment is.
func (p payment) attempts() int {
	if p.method == "" {
		return 0
	}
	return 1
}

func (p payment) declined() bool { return p.method == paymentMethodDeclines }

func (p *params) payment() payment {
	p.exclusive("paid_out_of_band", "payment_method")
	outOfBand := p.boolean("paid_out_of_band")
	method := p.text("payment_method", maxNameLength).text
	switch {
	case method == "" && (outOfBand == nil || !*outOfBand):
		p.fail(codeMissing, "paid_out_of_band", "This server has no payment provider. Pass paid_out_of_band=true to record a "+
			"payment made elsewhere, or payment_method=%s or %s to simulate one.", paymentMethodSucceeds, paymentMethodDeclines)
	case method != "" && method != paymentMethodSucceeds && method != paymentMethodDeclines:
		p.fail(codeResourceMissing, "payment_method", "No such PaymentMethod: '%s'. There are %s and %s.",
			shorten(method), paymentMethodSucceeds, paymentMethodDeclines)
	}
	return payment{method}
}

// payInvoice is POST /v1/invoices/{id}/pay.
func (s *Server) payInvoice(p *params) operation {
	id := p.pathID("invoice")
	how := p.payment()
	expand := p.expand("customer")
	return func(ctx context.Context, db querier) (any, error) {
		inv, err := s.pay(ctx, db, id, how)
		if err != nil {
			return nil, err
		}
		object := inv.object()
		return object, expandCustomers(ctx, db, expand["customer"], object.Customer)
	}
}

// pay records a payment of all that is due. A declined one is recorded too, and answered with an [apiError] that
// commits.
func (s *Server) pay(ctx context.Context, db querier, id string, how payment) (*invoice, error) {
	inv, err := lockInvoice(ctx, db, id)
	if err != nil {
		return nil, err
	}
	if inv == nil {
		return nil, notFound("invoice", id)
	}
	if inv.Status != statusOpen && inv.Status != statusUncollectible {
		return nil, illegalTransition(inv, "paid", statusOpen, statusUncollectible)
	}
	at, err := s.insertPayment(ctx, db, inv, how)
	if err != nil {
		return nil, err
	}
	if how.declined() {
		if _, err := db.Exec(ctx, "UPDATE invoices SET attempt_count = attempt_count + 1 WHERE id = $1", id); err != nil {
			return nil, fmt.Errorf("count payment attempt: %w", err)
		}
		return nil, &apiError{
			status: http.StatusPaymentRequired, kind: typeCard, code: codeCardDeclined,
			message: "Your card was declined.", commit: true,
		}
	}
	paid, err := one[invoice](ctx, db, `
		UPDATE invoices
		SET status = 'paid', paid_at = $2, amount_paid = amount_due, attempt_count = attempt_count + $3
		WHERE id = $1 AND status IN ('open', 'uncollectible')
		RETURNING `+invoiceColumns, id, at, how.attempts())
	return transitioned(paid, id, err)
}

// insertPayment records a payment of what remains and returns its time.
func (s *Server) insertPayment(ctx context.Context, db querier, inv *invoice, how payment) (time.Time, error) {
	id, at := s.ids.next(paymentPrefix)
	status := "succeeded"
	if how.declined() {
		status = "failed"
	}
	var method *string
	if how.method != "" {
		method = &how.method
	}
	_, err := db.Exec(ctx, `
		INSERT INTO invoice_payments (id, created_at, invoice_id, status, amount, payment_method)
		VALUES ($1, $2, $3, $4, $5, $6)`, id, at, inv.ID, status, inv.AmountRemaining, method)
	if err != nil {
		return at, fmt.Errorf("insert payment: %w", err)
	}
	return at, nil
}
