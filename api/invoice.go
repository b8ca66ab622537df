package api

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// maxLines bounds the lines of an invoice.
	maxLines = 250

	// defaultCurrency is that of an invoice that names none and takes up no pending items.
	defaultCurrency = "usd"

	methodCharge = "charge_automatically"
	methodSend   = "send_invoice"
)

// An invoice is a row of invoices with its first lines, read in one statement so that the lines add up to the total.
type invoice struct {
	ID                    string
	CreatedAt             time.Time
	CustomerID            string
	Status                string
	Currency              string
	CollectionMethod      string
	Description           *string
	Footer                *string
	Metadata              map[string]string
	CustomerEmail         *string
	CustomerName          *string
	DueAt                 *time.Time
	Total                 int64
	AmountDue             int64
	AmountPaid            int64
	AmountRemaining       int64
	AttemptCount          int
	Number                *string
	FinalizedAt           *time.Time
	PaidAt                *time.Time
	VoidedAt              *time.Time
	MarkedUncollectibleAt *time.Time
	PaidOutOfBand         bool
	Lines                 []*invoiceItem // at most one more than embeddedLines
}

var invoiceColumns = "id, created_at, customer_id, status, currency, collection_method, description, footer, metadata, " +
	"customer_email, customer_name, due_at, total, amount_due, amount_paid, amount_remaining, attempt_count, number, " +
	"finalized_at, paid_at, voided_at, marked_uncollectible_at, " +
	"status = 'paid' AND EXISTS (SELECT FROM invoice_payments AS p WHERE p.invoice_id = invoices.id " +
	"AND p.status = 'succeeded' AND p.payment_method IS NULL) AS paid_out_of_band, " +
	"(SELECT coalesce(json_agg(line ORDER BY line.line_id), '[]') FROM (SELECT " + invoiceItemColumns +
	" FROM invoice_items WHERE invoice_id = invoices.id ORDER BY line_id LIMIT " + strconv.Itoa(embeddedLines+1) +
	") AS line) AS lines"

// A newInvoice is what a request says about an invoice to create.
type newInvoice struct {
	customerID       string
	collectionMethod string
	currency         string // "" stands for that of the pending items, or the default
	daysUntilDue     *int64
	dueAt            *time.Time
	description      textChange
	footer           textChange
	metadata         metadataChange
	includePending   bool
}

func (p *params) newInvoice() newInvoice {
	inv := newInvoice{
		customerID:       p.requiredID("customer"),
		collectionMethod: p.choice("collection_method", methodCharge, methodSend),
		currency:         p.currency("currency"),
		daysUntilDue:     p.integer("days_until_due", 0, 3650),
		dueAt:            p.timestamp("due_date"),
		description:      p.text("description", maxTextLength),
		footer:           p.text("footer", maxTextLength),
		metadata:         p.metadata(),
		includePending:   p.choice("pending_invoice_items_behavior", "exclude", "include") == "include",
	}
	if inv.collectionMethod == "" {
		inv.collectionMethod = methodCharge
	}
	p.noAutoAdvance()
	p.exclusive("days_until_due", "due_date")
	due := inv.daysUntilDue != nil || inv.dueAt != nil
	switch {
	case inv.collectionMethod == methodSend && !due:
		p.fail(codeMissing, "days_until_due", "An invoice with collection_method=send_invoice needs days_until_due or due_date.")
	case inv.collectionMethod == methodCharge && due:
		p.fail("", "days_until_due", "days_until_due and due_date need collection_method=send_invoice.")
	}
	return inv
}

// noAutoAdvance accepts auto_advance=false only: nothing here acts on an invoice unasked.
func (p *params) noAutoAdvance() {
	if advance := p.boolean("auto_advance"); advance != nil && *advance {
		p.fail("", "auto_advance", "auto_advance=true is not supported: finalize and pay invoices with requests of their own.")
	}
}

// createInvoice is POST /v1/invoices.
func (s *Server) createInvoice(p *params) operation {
	wanted := p.newInvoice()
	expand := p.expand("customer")
	return func(ctx context.Context, db querier) (any, error) {
		inv, err := s.insertInvoice(ctx, db, wanted)
		if err != nil {
			return nil, err
		}
		object := inv.object()
		return object, expandCustomers(ctx, db, expand["customer"], object.Customer)
	}
}

// insertInvoice creates a draft and, when asked to, moves the customer's oldest pending items of its currency, up to
// maxLines, onto it.
func (s *Server) insertInvoice(ctx context.Context, db querier, wanted newInvoice) (*invoice, error) {
	metadata, refusal := wanted.metadata.apply(nil)
	if refusal != nil {
		return nil, refusal
	}
	var pending pendingItems
	if wanted.includePending {
		var err error
		if pending, err = lockPendingItems(ctx, db, wanted.customerID, wanted.currency); err != nil {
			return nil, err
		}
	}
	id, createdAt := s.ids.next(invoicePrefix)
	dueAt := wanted.dueAt
	if wanted.daysUntilDue != nil {
		dueAt = new(createdAt.AddDate(0, 0, int(*wanted.daysUntilDue)))
	}
	if dueAt != nil && dueAt.Before(createdAt.Truncate(time.Second)) {
		return nil, invalidRequest("", "due_date", "Invalid due_date: it is in the past.")
	}
	inv, err := one[invoice](ctx, db, `
		INSERT INTO invoices (id, created_at, customer_id, currency, collection_method, description, footer, metadata,
			due_at, total, customer_email, customer_name)
		SELECT $1, $2, customers.id, $4, $5, $6, $7, $8, $9, $10, customers.email, customers.name
		FROM customers WHERE customers.id = $3
		RETURNING `+invoiceColumns,
		id, createdAt, wanted.customerID, cmp.Or(wanted.currency, pending.currency, defaultCurrency),
		wanted.collectionMethod, wanted.description.apply(nil), wanted.footer.apply(nil), metadata, dueAt, pending.total)
	if err != nil {
		return nil, fmt.Errorf("insert invoice: %w", err)
	}
	if inv == nil {
		return nil, noSuch("customer", wanted.customerID, "customer")
	}
	if len(pending.ids) == 0 {
		return inv, nil
	}
	if err := s.attach(ctx, db, pending, inv.ID); err != nil {
		return nil, err
	}
	return selectInvoice(ctx, db, inv.ID)
}

// pendingItems are items about to join an invoice.
type pendingItems struct {
	ids      []string
	currency string // "" when there are none
	total    int64
}

// lockPendingItems returns the oldest pending items of a customer, all of one currency: the given one or, when it is "",
// that of the oldest item.
func lockPendingItems(ctx context.Context, db querier, customerID, currency string) (pendingItems, error) {
	rows, err := db.Query(ctx, `
		SELECT id, currency, amount FROM invoice_items
		WHERE customer_id = $1 AND invoice_id IS NULL AND currency = coalesce(nullif($2, ''), (
			SELECT currency FROM invoice_items WHERE customer_id = $1 AND invoice_id IS NULL ORDER BY id LIMIT 1
		))
		ORDER BY id LIMIT $3 FOR UPDATE`, customerID, currency, maxLines)
	if err != nil {
		return pendingItems{}, fmt.Errorf("lock pending items: %w", err)
	}
	var pending pendingItems
	var id string
	var amount int64
	_, err = pgx.ForEachRow(rows, []any{&id, &pending.currency, &amount}, func() error {
		pending.ids = append(pending.ids, id)
		pending.total += amount // 250 amounts cannot overflow
		return nil
	})
	if err != nil {
		return pendingItems{}, fmt.Errorf("lock pending items: %w", err)
	}
	if !inRange(pending.total) {
		return pendingItems{}, totalTooLarge()
	}
	return pending, nil
}

// attach makes lines of items that the caller has locked, in their order.
func (s *Server) attach(ctx context.Context, db querier, items pendingItems, invoiceID string) error {
	lineIDs := make([]string, len(items.ids))
	for i := range lineIDs {
		lineIDs[i], _ = s.ids.next(lineItemPrefix)
	}
	_, err := db.Exec(ctx, `
		UPDATE invoice_items SET invoice_id = $1, line_id = line.id
		FROM unnest($2::text[], $3::text[]) AS line (item_id, id)
		WHERE invoice_items.id = line.item_id`, invoiceID, items.ids, lineIDs)
	if err != nil {
		return fmt.Errorf("attach pending items: %w", err)
	}
	return nil
}

func totalTooLarge() *apiError {
	return invalidRequest(codeAmountTooLarge, "amount", "The total of an invoice must be between -%d and %d.", maxAmount, maxAmount)
}

// selectInvoice reads an invoice: nil when there is none.
func selectInvoice(ctx context.Context, db querier, id string) (*invoice, error) {
	inv, err := one[invoice](ctx, db, "SELECT "+invoiceColumns+" FROM invoices WHERE id = $1", id)
	if err != nil {
		return nil, fmt.Errorf("get invoice: %w", err)
	}
	return inv, nil
}

// getInvoice is GET /v1/invoices/{id}.
func (s *Server) getInvoice(p *params) operation {
	id := p.pathID("invoice")
	expand := p.expand("customer")
	return func(ctx context.Context, db querier) (any, error) {
		inv, err := selectInvoice(ctx, db, id)
		if err != nil {
			return nil, err
		}
		if inv == nil {
			return nil, notFound("invoice", id)
		}
		object := inv.object()
		return object, expandCustomers(ctx, db, expand["customer"], object.Customer)
	}
}

// listInvoices is GET /v1/invoices.
func (s *Server) listInvoices(p *params) operation {
	wanted := p.page("invoice", invoicePrefix)
	var f filter
	f.addGiven("customer_id", p.id("customer"))
	f.addGiven("status", p.choice("status", statusDraft, statusOpen, statusPaid, statusUncollectible, statusVoid))
	f.addGiven("collection_method", p.choice("collection_method", methodCharge, methodSend))
	f.addCreated(p, invoicePrefix)
	expand := p.expand("data.customer")
	invoices := listing{table: "invoices", columns: invoiceColumns, key: "id"}
	return func(ctx context.Context, db querier) (any, error) {
		rows, more, err := rowsOf[invoice](ctx, db, invoices, f, wanted)
		if err != nil {
			return nil, err
		}
		var refs []*customerRef
		list := newList("/v1/invoices", rows, more, func(row *invoice) any {
			object := row.object()
			refs = append(refs, object.Customer)
			return object
		})
		return list, expandCustomers(ctx, db, expand["data.customer"], refs...)
	}
}

// listLines is GET /v1/invoices/{id}/lines.
func (s *Server) listLines(p *params) operation {
	id := p.pathID("invoice")
	wanted := p.page("line_item", lineItemPrefix)
	p.expand()
	var f filter
	f.add("invoice_id = %s", id)
	lines := listing{table: "invoice_items", columns: invoiceItemColumns, key: "line_id", oldestFirst: true}
	return func(ctx context.Context, db querier) (any, error) {
		rows, more, err := rowsOf[invoiceItem](ctx, db, lines, f, wanted)
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 { // no lines here, or no such invoice
			inv, err := selectInvoice(ctx, db, id)
			if err != nil {
				return nil, err
			}
			if inv == nil {
				return nil, notFound("invoice", id)
			}
		}
		return newList(linesURL(id), rows, more, (*invoiceItem).lineObject), nil
	}
}
