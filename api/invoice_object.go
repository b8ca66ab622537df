package api

import (
	"strconv"
	"time"
)

// embeddedLines is how many lines an invoice shows; the others are at /v1/invoices/{id}/lines.
const embeddedLines = 10

// An invoiceObject is an invoice as the API shows it. Fields without a value in this system are there because Stripe's
// schema, and with it the SDKs of typed languages, requires them.
type invoiceObject struct {
	ID                           string            `json:"id"`
	Object                       string            `json:"object"`
	AmountDue                    int64             `json:"amount_due"`
	AmountOverpaid               int64             `json:"amount_overpaid"`
	AmountPaid                   int64             `json:"amount_paid"`
	AmountPaidOffStripe          int64             `json:"amount_paid_off_stripe"`
	AmountRemaining              int64             `json:"amount_remaining"`
	AmountShipping               int64             `json:"amount_shipping"`
	AttemptCount                 int               `json:"attempt_count"`
	Attempted                    bool              `json:"attempted"`
	AutoAdvance                  bool              `json:"auto_advance"`
	AutomaticTax                 automaticTax      `json:"automatic_tax"`
	BillingReason                string            `json:"billing_reason"`
	CollectionMethod             string            `json:"collection_method"`
	Created                      int64             `json:"created"`
	Currency                     string            `json:"currency"`
	Customer                     *customerRef      `json:"customer"`
	CustomerEmail                *string           `json:"customer_email"`
	CustomerName                 *string           `json:"customer_name"`
	DefaultTaxRates              []struct{}        `json:"default_tax_rates"`
	Description                  *string           `json:"description"`
	Discounts                    []struct{}        `json:"discounts"`
	DueDate                      *int64            `json:"due_date"`
	EffectiveAt                  *int64            `json:"effective_at"`
	EndingBalance                *int64            `json:"ending_balance"`
	Footer                       *string           `json:"footer"`
	HostedInvoiceURL             *string           `json:"hosted_invoice_url"`
	InvoicePDF                   *string           `json:"invoice_pdf"`
	Issuer                       issuer            `json:"issuer"`
	Lines                        listObject        `json:"lines"`
	Livemode                     bool              `json:"livemode"`
	Metadata                     map[string]string `json:"metadata"`
	NextPaymentAttempt           *int64            `json:"next_payment_attempt"`
	Number                       *string           `json:"number"`
	Parent                       *struct{}         `json:"parent"`
	PaymentSettings              paymentSettings   `json:"payment_settings"`
	PeriodEnd                    int64             `json:"period_end"`
	PeriodStart                  int64             `json:"period_start"`
	PostPaymentCreditNotesAmount int64             `json:"post_payment_credit_notes_amount"`
	PrePaymentCreditNotesAmount  int64             `json:"pre_payment_credit_notes_amount"`
	ReceiptNumber                *string           `json:"receipt_number"`
	StartingBalance              int64             `json:"starting_balance"`
	Status                       string            `json:"status"`
	StatusTransitions            statusTransitions `json:"status_transitions"`
	Subtotal                     int64             `json:"subtotal"`
	Total                        int64             `json:"total"`
	TotalDiscountAmounts         []struct{}        `json:"total_discount_amounts"`
	TotalTaxes                   []struct{}        `json:"total_taxes"`
}

type automaticTax struct {
	Enabled        bool      `json:"enabled"`
	DisabledReason *string   `json:"disabled_reason"`
	Liability      *struct{} `json:"liability"`
	Provider       *string   `json:"provider"`
	Status         *string   `json:"status"`
}

type issuer struct {
	Type string `json:"type"`
}

type paymentSettings struct {
	DefaultMandate       *string   `json:"default_mandate"`
	PaymentMethodOptions *struct{} `json:"payment_method_options"`
	PaymentMethodTypes   *struct{} `json:"payment_method_types"`
}

type statusTransitions struct {
	FinalizedAt           *int64 `json:"finalized_at"`
	MarkedUncollectibleAt *int64 `json:"marked_uncollectible_at"`
	PaidAt                *int64 `json:"paid_at"`
	VoidedAt              *int64 `json:"voided_at"`
}

func (i *invoice) object() *invoiceObject {
	none := []struct{}{}
	object := &invoiceObject{
		ID:                   i.ID,
		Object:               "invoice",
		AmountDue:            i.AmountDue,
		AmountPaid:           i.AmountPaid,
		AmountRemaining:      i.AmountRemaining,
		AttemptCount:         i.AttemptCount,
		Attempted:            i.AttemptCount > 0,
		BillingReason:        "manual",
		CollectionMethod:     i.CollectionMethod,
		Created:              i.CreatedAt.Unix(),
		Currency:             i.Currency,
		Customer:             &customerRef{id: i.CustomerID},
		CustomerEmail:        i.CustomerEmail,
		CustomerName:         i.CustomerName,
		DefaultTaxRates:      none,
		Description:          i.Description,
		Discounts:            none,
		DueDate:              unixOrNull(i.DueAt),
		EffectiveAt:          unixOrNull(i.FinalizedAt),
		Footer:               i.Footer,
		Issuer:               issuer{Type: "self"},
		Lines:                i.lines(),
		Metadata:             i.Metadata,
		Number:               i.Number,
		PeriodEnd:            i.CreatedAt.Unix(),
		PeriodStart:          i.CreatedAt.Unix(),
		Status:               i.Status,
		Subtotal:             i.Total, // no tax and no discounts come between the two
		Total:                i.Total,
		TotalDiscountAmounts: none,
		TotalTaxes:           none,
		StatusTransitions: statusTransitions{
			FinalizedAt:           unixOrNull(i.FinalizedAt),
			MarkedUncollectibleAt: unixOrNull(i.MarkedUncollectibleAt),
			PaidAt:                unixOrNull(i.PaidAt),
			VoidedAt:              unixOrNull(i.VoidedAt),
		},
	}
	if i.PaidOutOfBand {
		object.AmountPaidOffStripe = i.AmountPaid
	}
	if i.Status != statusDraft {
		object.EndingBalance = new(int64)
	}
	return object
}

func (i *invoice) lines() listObject {
	shown := i.Lines[:min(len(i.Lines), embeddedLines)]
	return newList(linesURL(i.ID), shown, len(i.Lines) > embeddedLines, (*invoiceItem).lineObject)
}

func linesURL(invoiceID string) string {
	return "/v1/invoices/" + invoiceID + "/lines"
}

func unixOrNull(t *time.Time) *int64 {
	if t == nil {
		return nil
	}
	return new(t.Unix())
}

// A lineObject is an invoice item as a line of its invoice.
type lineObject struct {
	ID              string            `json:"id"`
	Object          string            `json:"object"`
	Amount          int64             `json:"amount"`
	Currency        string            `json:"currency"`
	Description     *string           `json:"description"`
	Discountable    bool              `json:"discountable"`
	Discounts       []struct{}        `json:"discounts"`
	Invoice         *string           `json:"invoice"`
	Livemode        bool              `json:"livemode"`
	Metadata        map[string]string `json:"metadata"`
	Parent          lineParent        `json:"parent"`
	Period          period            `json:"period"`
	Pricing         *pricing          `json:"pricing"`
	Quantity        int64             `json:"quantity"`
	QuantityDecimal string            `json:"quantity_decimal"`
	Subtotal        int64             `json:"subtotal"`
	Taxes           []struct{}        `json:"taxes"`
}

type lineParent struct {
	Type                    string            `json:"type"`
	InvoiceItemDetails      lineParentDetails `json:"invoice_item_details"`
	SubscriptionItemDetails *struct{}         `json:"subscription_item_details"`
}

type lineParentDetails struct {
	InvoiceItem      string    `json:"invoice_item"`
	Proration        bool      `json:"proration"`
	ProrationDetails *struct{} `json:"proration_details"`
	Subscription     *string   `json:"subscription"`
}

// lineObject renders an item that is on an invoice.
func (i *invoiceItem) lineObject() any {
	return lineObject{
		ID:           *i.LineID,
		Object:       "line_item",
		Amount:       i.Amount,
		Currency:     i.Currency,
		Description:  i.Description,
		Discountable: true,
		Discounts:    []struct{}{},
		Invoice:      i.InvoiceID,
		Metadata:     i.Metadata,
		Parent: lineParent{
			Type:               "invoice_item_details",
			InvoiceItemDetails: lineParentDetails{InvoiceItem: i.ID},
		},
		Period:          i.period(),
		Pricing:         i.pricing(),
		Quantity:        i.Quantity,
		QuantityDecimal: strconv.FormatInt(i.Quantity, 10),
		Subtotal:        i.Amount,
		Taxes:           []struct{}{},
	}
}
