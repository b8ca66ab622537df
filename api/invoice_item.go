package api

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"
)

// An invoiceItem is a row of invoice_items. It is pending until it joins an invoice; from then on it is also that
// invoice's line item, under a second id.
type invoiceItem struct {
	ID                string            `json:"id"`
	CreatedAt         time.Time         `json:"created_at"`
	CustomerID        string            `json:"customer_id"`
	Currency          string            `json:"currency"`
	Amount            int64             `json:"amount"`
	Quantity          int64             `json:"quantity"`
	UnitAmountDecimal *string           `json:"unit_amount_decimal"`
	Description       *string           `json:"description"`
	Metadata          map[string]string `json:"metadata"`
	PeriodStart       time.Time         `json:"period_start"`
	PeriodEnd         time.Time         `json:"period_end"`
	InvoiceID         *string           `json:"invoice_id"`
	LineID            *string           `json:"line_id"`
}

// The JSON names above are the columns: an invoice is read together with its lines as an array of rows.
const invoiceItemColumns = "id, created_at, customer_id, currency, amount, quantity, " +
	"trim_scale(unit_amount_decimal)::text AS unit_amount_decimal, description, metadata, period_start, period_end, " +
	"invoice_id, line_id"

// An invoiceItemObject is an invoice item as the API shows it.
type invoiceItemObject struct {
	ID              string            `json:"id"`
	Object          string            `json:"object"`
	Amount          int64             `json:"amount"`
	Currency        string            `json:"currency"`
	Customer        *customerRef      `json:"customer"`
	Date            int64             `json:"date"`
	Description     *string           `json:"description"`
	Discountable    bool              `json:"discountable"`
	Invoice         *string           `json:"invoice"`
	Livemode        bool              `json:"livemode"`
	Metadata        map[string]string `json:"metadata"`
	NetAmount       int64             `json:"net_amount"`
	Parent          *struct{}         `json:"parent"`
	Period          period            `json:"period"`
	Pricing         *pricing          `json:"pricing"`
	Proration       bool              `json:"proration"`
	Quantity        int64             `json:"quantity"`
	QuantityDecimal string            `json:"quantity_decimal"`
}

// A period is the time an item bills for, in Unix seconds.
type period struct {
	Start int64 `json:"start"`
	End   int64 `json:"end"`
}

// A pricing says how an amount came about; an item with a plain amount has none.
type pricing struct {
	Type              string `json:"type"`
	UnitAmountDecimal string `json:"unit_amount_decimal"`
}

func (i *invoiceItem) period() period {
	return period{Start: i.PeriodStart.Unix(), End: i.PeriodEnd.Unix()}
}

func (i *invoiceItem) pricing() *pricing {
	if i.UnitAmountDecimal == nil {
		return nil
	}
	return &pricing{Type: "price_details", UnitAmountDecimal: *i.UnitAmountDecimal}
}

func (i *invoiceItem) object() *invoiceItemObject {
	return &invoiceItemObject{
		ID:              i.ID,
		Object:          "invoiceitem",
		Amount:          i.Amount,
		Currency:        i.Currency,
		Customer:        &customerRef{id: i.CustomerID},
		Date:            i.CreatedAt.Unix(),
		Description:     i.Description,
		Discountable:    true,
		Invoice:         i.InvoiceID,
		Metadata:        i.Metadata,
		NetAmount:       i.Amount,
		Period:          i.period(),
		Pricing:         i.pricing(),
		Quantity:        i.Quantity,
		QuantityDecimal: strconv.FormatInt(i.Quantity, 10),
	}
}

// A newInvoiceItem is what a request says about an item to create.
type newInvoiceItem struct {
	customerID        string
	invoiceID         string // "" leaves the item pending
	currency          string // "" stands for the invoice's
	amount            int64
	quantity          int64
	unitAmountDecimal *string
	description       textChange
	metadata          metadataChange
	periodStart       *time.Time // nil stands for the time of creation
	periodEnd         *time.Time
}

func (p *params) newInvoiceItem() newInvoiceItem {
	item := newInvoiceItem{
		customerID:  p.requiredID("customer"),
		invoiceID:   p.id("invoice"),
		currency:    p.currency("currency"),
		quantity:    1,
		description: p.text("description", maxTextLength),
		metadata:    p.metadata(),
		periodStart: p.timestamp("period[start]"),
		periodEnd:   p.timestamp("period[end]"),
	}
	if item.currency == "" && item.invoiceID == "" {
		p.missing("currency")
	}
	p.itemAmount(&item)
	switch start, end := item.periodStart, item.periodEnd; {
	case start == nil && end != nil:
		p.missing("period[start]")
	case start != nil && end == nil:
		p.missing("period[end]")
	case start != nil && end.Before(*start):
		p.fail("", "period[end]", "Invalid period[end]: it is before period[start].")
	}
	return item
}

// itemAmount reads either amount, or unit_amount_decimal and quantity.
func (p *params) itemAmount(item *newInvoiceItem) {
	p.exclusive("amount", "unit_amount_decimal")
	p.exclusive("amount", "quantity")
	amount := p.integer("amount", math.MinInt64, math.MaxInt64)
	quantity := p.integer("quantity", 0, math.MaxInt64)
	unitText, _ := p.value("unit_amount_decimal")

	inBounds := true
	switch {
	case amount != nil:
		item.amount, inBounds = *amount, inRange(*amount)
	case unitText != "":
		unit, ok := parseDecimal(unitText)
		if !ok {
			p.fail("", "unit_amount_decimal", "Invalid decimal: %s. At most 12 decimal places are accepted.", shorten(unitText))
			return
		}
		if quantity != nil {
			item.quantity = *quantity
		}
		item.unitAmountDecimal = &unitText
		item.amount, inBounds = lineAmount(unit, item.quantity)
	default:
		p.missing("amount")
	}
	if !inBounds {
		p.fail(codeAmountTooLarge, "amount", "The amount must be between -%d and %d.", maxAmount, maxAmount)
	}
}

// createInvoiceItem is POST /v1/invoiceitems.
func (s *Server) createInvoiceItem(p *params) operation {
	item := p.newInvoiceItem()
	expand := p.expand("customer")
	return func(ctx context.Context, db querier) (any, error) {
		row, err := s.insertInvoiceItem(ctx, db, item)
		if err != nil {
			return nil, err
		}
		object := row.object()
		return object, expandCustomers(ctx, db, expand["customer"], object.Customer)
	}
}

// insertInvoiceItem creates an item, pending or on a draft invoice of the same customer and currency.
func (s *Server) insertInvoiceItem(ctx context.Context, db querier, item newInvoiceItem) (*invoiceItem, error) {
	metadata, refusal := item.metadata.apply(nil)
	if refusal != nil {
		return nil, refusal
	}
	var invoiceID, lineID *string
	if item.invoiceID != "" {
		currency, err := joinInvoice(ctx, db, item)
		if err != nil {
			return nil, err
		}
		line, _ := s.ids.next(lineItemPrefix)
		invoiceID, lineID, item.currency = &item.invoiceID, &line, currency
	}
	id, createdAt := s.ids.next(invoiceItemPrefix)
	start, end := createdAt, createdAt
	if item.periodStart != nil {
		start, end = *item.periodStart, *item.periodEnd
	}
	row, err := one[invoiceItem](ctx, db, `
		INSERT INTO invoice_items (id, created_at, customer_id, currency, amount, quantity, unit_amount_decimal,
			description, metadata, period_start, period_end, invoice_id, line_id)
		SELECT $1, $2, customers.id, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13 FROM customers WHERE customers.id = $3
		RETURNING `+invoiceItemColumns,
		id, createdAt, item.customerID, item.currency, item.amount, item.quantity, item.unitAmountDecimal,
		item.description.apply(nil), metadata, start, end, invoiceID, lineID)
	if err != nil {
		return nil, fmt.Errorf("insert invoice item: %w", err)
	}
	if row == nil {
		return nil, noSuch("customer", item.customerID, "customer")
	}
	return row, nil
}

// joinInvoice makes room for item on the invoice it names and returns the invoice's currency.
func joinInvoice(ctx context.Context, db querier, item newInvoiceItem) (currency string, err error) {
	inv, err := lockInvoice(ctx, db, item.invoiceID)
	if err != nil {
		return "", err
	}
	switch {
	case inv == nil:
		return "", noSuch("invoice", item.invoiceID, "invoice")
	case inv.CustomerID != item.customerID:
		return "", invalidRequest("", "invoice", "Invoice %s is not of customer '%s'.", inv.ID, item.customerID)
	case inv.Status != statusDraft:
		return "", notEditable(inv)
	case item.currency != "" && item.currency != inv.Currency:
		return "", invalidRequest("", "currency", "The currency of the item, %s, must be that of invoice %s, %s.",
			item.currency, inv.ID, inv.Currency)
	}
	total, ok := addAmounts(inv.Total, item.amount)
	if !ok {
		return "", totalTooLarge()
	}
	var lineCount int
	err = db.QueryRow(ctx, "UPDATE invoices SET total = $2 WHERE id = $1 "+
		"RETURNING (SELECT count(*) FROM invoice_items WHERE invoice_id = invoices.id)", inv.ID, total).Scan(&lineCount)
	if err != nil {
		return "", fmt.Errorf("add to invoice: %w", err)
	}
	if lineCount >= maxLines {
		return "", invalidRequest("", "invoice", "Invoice %s already has %d lines, the most an invoice can have.", inv.ID, lineCount)
	}
	return inv.Currency, nil
}

// getInvoiceItem is GET /v1/invoiceitems/{id}.
func (s *Server) getInvoiceItem(p *params) operation {
	id := p.pathID("invoiceitem")
	expand := p.expand("customer")
	return func(ctx context.Context, db querier) (any, error) {
		row, err := one[invoiceItem](ctx, db, "SELECT "+invoiceItemColumns+" FROM invoice_items WHERE id = $1", id)
		if err != nil {
			return nil, fmt.Errorf("get invoice item: %w", err)
		}
		if row == nil {
			return nil, notFound("invoiceitem", id)
		}
		object := row.object()
		return object, expandCustomers(ctx, db, expand["customer"], object.Customer)
	}
}

// listInvoiceItems is GET /v1/invoiceitems.
func (s *Server) listInvoiceItems(p *params) operation {
	wanted := p.page("invoiceitem", invoiceItemPrefix)
	var f filter
	f.addGiven("customer_id", p.id("customer"))
	f.addGiven("invoice_id", p.id("invoice"))
	if pending := p.boolean("pending"); pending != nil {
		f.add("(invoice_id IS NULL) = %s", *pending)
	}
	f.addCreated(p, invoiceItemPrefix)
	expand := p.expand("data.customer")
	items := listing{table: "invoice_items", columns: invoiceItemColumns, key: "id"}
	return func(ctx context.Context, db querier) (any, error) {
		rows, more, err := rowsOf[invoiceItem](ctx, db, items, f, wanted)
		if err != nil {
			return nil, err
		}
		var refs []*customerRef
		list := newList("/v1/invoiceitems", rows, more, func(row *invoiceItem) any {
			object := row.object()
			refs = append(refs, object.Customer)
			return object
		})
		return list, expandCustomers(ctx, db, expand["data.customer"], refs...)
	}
}
