package api

import (
	"context"
	"encoding/json"
	"fmt"
)

// A customerRef is a field that holds a customer's id or, when the request asked to expand it, the customer.
type customerRef struct {
	id     string
	object any // nil unless expanded
}

// MarshalJSON implements [json.Marshaler].
func (r customerRef) MarshalJSON() ([]byte, error) {
	if r.object != nil {
		return json.Marshal(r.object)
	}
	return json.Marshal(r.id)
}

// expandCustomers fills in the customers that refs name, in one query, if the request wanted them.
func expandCustomers(ctx context.Context, db querier, wanted bool, refs ...*customerRef) error {
	if !wanted {
		return nil
	}
	ids := make([]string, len(refs))
	for i, ref := range refs {
		ids[i] = ref.id
	}
	rows, err := all[customer](ctx, db, "SELECT "+customerColumns+" FROM customers WHERE id = ANY($1)", ids)
	if err != nil {
		return fmt.Errorf("expand customers: %w", err)
	}
	byID := make(map[string]any, len(rows))
	for _, row := range rows {
		byID[row.ID] = row.object()
	}
	for _, ref := range refs {
		ref.object = byID[ref.id]
	}
	return nil
}
