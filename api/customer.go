package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"time"
)

// A customer is a row of customers.
type customer struct {
	ID                  string
	CreatedAt           time.Time
	Email               *string
	Name                *string
	Description         *string
	Phone               *string
	Address             *address
	Metadata            map[string]string
	InvoicePrefix       string
	NextInvoiceSequence int64
}

const customerColumns = "id, created_at, email, name, description, phone, address, metadata, invoice_prefix, " +
	"next_invoice_sequence"

// A customerObject is a customer as the API shows it.
type customerObject struct {
	ID                  string            `json:"id"`
	Object              string            `json:"object"`
	Address             *address          `json:"address"`
	Balance             int64             `json:"balance"`
	Created             int64             `json:"created"`
	Currency            *string           `json:"currency"`
	DefaultSource       *string           `json:"default_source"`
	Delinquent          bool              `json:"delinquent"`
	Description         *string           `json:"description"`
	Email               *string           `json:"email"`
	InvoicePrefix       string            `json:"invoice_prefix"`
	InvoiceSettings     invoiceSettings   `json:"invoice_settings"`
	Livemode            bool              `json:"livemode"`
	Metadata            map[string]string `json:"metadata"`
	Name                *string           `json:"name"`
	NextInvoiceSequence int64             `json:"next_invoice_sequence"`
	Phone               *string           `json:"phone"`
	Shipping            *struct{}         `json:"shipping"`
	TaxExempt           string            `json:"tax_exempt"`
}

// invoiceSettings are required by Stripe's schema; none can be set here.
type invoiceSettings struct {
	CustomFields         *struct{} `json:"custom_fields"`
	DefaultPaymentMethod *string   `json:"default_payment_method"`
	Footer               *string   `json:"footer"`
	RenderingOptions     *struct{} `json:"rendering_options"`
}

func (c *customer) object() any {
	return customerObject{
		ID:                  c.ID,
		Object:              "customer",
		Address:             c.Address,
		Created:             c.CreatedAt.Unix(),
		Description:         c.Description,
		Email:               c.Email,
		InvoicePrefix:       c.InvoicePrefix,
		Metadata:            c.Metadata,
		Name:                c.Name,
		NextInvoiceSequence: c.NextInvoiceSequence,
		Phone:               c.Phone,
		TaxExempt:           "none",
	}
}

// A customerChange is what a request says about a customer: all of a new one, or what shall be different.
type customerChange struct {
	email       textChange
	name        textChange
	description textChange
	phone       textChange
	address     addressChange
	metadata    metadataChange
}

func (p *params) customerChange() customerChange {
	return customerChange{
		email:       p.email("email"),
		name:        p.text("name", maxNameLength),
		description: p.text("description", maxTextLength),
		phone:       p.text("phone", maxPhoneLength),
		address:     p.address("address"),
		metadata:    p.metadata(),
	}
}

func (c customerChange) apply(to *customer) *apiError {
	metadata, err := c.metadata.apply(to.Metadata)
	if err != nil {
		return err
	}
	to.Email = c.email.apply(to.Email)
	to.Name = c.name.apply(to.Name)
	to.Description = c.description.apply(to.Description)
	to.Phone = c.phone.apply(to.Phone)
	to.Address = c.address.apply(to.Address)
	to.Metadata = metadata
	return nil
}

// createCustomer is POST /v1/customers.
func (s *Server) createCustomer(p *params) operation {
	change := p.customerChange()
	prefix := p.invoicePrefix()
	p.expand()
	return func(ctx context.Context, db querier) (any, error) {
		created, err := s.insertCustomer(ctx, db, change, prefix)
		if err != nil {
			return nil, err
		}
		return created.object(), nil
	}
}

// invoicePrefix reads the prefix of a customer's invoice numbers: "" when it was not given.
func (p *params) invoicePrefix() string {
	const name = "invoice_prefix"
	prefix, _ := p.value(name)
	if prefix != "" && !invoicePrefixPattern.MatchString(prefix) {
		p.fail("", name, "Invalid invoice_prefix: it must be 3 to 12 upper-case letters or digits.")
	}
	return prefix
}

var invoicePrefixPattern = regexp.MustCompile(`^[A-Z0-9]{3,12}$`)

// insertCustomer creates a customer whose invoice numbers begin with prefix, or with one made up when it is "".
func (s *Server) insertCustomer(ctx context.Context, db querier, change customerChange, prefix string) (*customer, error) {
	created := customer{InvoicePrefix: prefix}
	created.ID, created.CreatedAt = s.ids.next(customerPrefix)
	if err := change.apply(&created); err != nil {
		return nil, err
	}
	if prefix == "" {
		created.InvoicePrefix = rand.Text()[:8] // 40 bits: a clash is one in a million among a million customers
	}
	// DO NOTHING rather than an error, which would end the transaction.
	row, err := one[customer](ctx, db, `
		INSERT INTO customers (id, created_at, email, name, description, phone, address, metadata, invoice_prefix)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (invoice_prefix) DO NOTHING
		RETURNING `+customerColumns,
		created.ID, created.CreatedAt, created.Email, created.Name, created.Description, created.Phone,
		created.Address, created.Metadata, created.InvoicePrefix)
	if err != nil {
		return nil, fmt.Errorf("insert customer: %w", err)
	}
	if row == nil {
		return nil, invalidRequest(codeExists, "invoice_prefix",
			"The invoice prefix '%s' is already in use by another customer.", created.InvoicePrefix)
	}
	return row, nil
}

// updateCustomer is POST /v1/customers/{id}.
func (s *Server) updateCustomer(p *params) operation {
	id := p.pathID("customer")
	change := p.customerChange()
	p.expand()
	return func(ctx context.Context, db querier) (any, error) {
		row, err := one[customer](ctx, db,
			"SELECT "+customerColumns+" FROM customers WHERE id = $1 FOR NO KEY UPDATE", id)
		if err != nil {
			return nil, fmt.Errorf("lock customer: %w", err)
		}
		if row == nil {
			return nil, notFound("customer", id)
		}
		if err := change.apply(row); err != nil {
			return nil, err
		}
		_, err = db.Exec(ctx, `
			UPDATE customers
			SET email = $2, name = $3, description = $4, phone = $5, address = $6, metadata = $7
			WHERE id = $1`,
			row.ID, row.Email, row.Name, row.Description, row.Phone, row.Address, row.Metadata)
		if err != nil {
			return nil, fmt.Errorf("update customer: %w", err)
		}
		return row.object(), nil
	}
}

// getCustomer is GET /v1/customers/{id}.
func (s *Server) getCustomer(p *params) operation {
	id := p.pathID("customer")
	p.expand()
	return func(ctx context.Context, db querier) (any, error) {
		row, err := one[customer](ctx, db, "SELECT "+customerColumns+" FROM customers WHERE id = $1", id)
		if err != nil {
			return nil, fmt.Errorf("get customer: %w", err)
		}
		if row == nil {
			return nil, notFound("customer", id)
		}
		return row.object(), nil
	}
}

// listCustomers is GET /v1/customers.
func (s *Server) listCustomers(p *params) operation {
	wanted := p.page("customer", customerPrefix)
	var f filter
	f.addGiven("email", p.text("email", maxEmailLength).text)
	f.addCreated(p, customerPrefix)
	p.expand()
	customers := listing{table: "customers", columns: customerColumns, key: "id"}
	return func(ctx context.Context, db querier) (any, error) {
		rows, more, err := rowsOf[customer](ctx, db, customers, f, wanted)
		if err != nil {
			return nil, err
		}
		return newList("/v1/customers", rows, more, (*customer).object), nil
	}
}
