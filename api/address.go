package api

// An address is both the JSON stored with a customer and the one the API shows.
type address struct {
	City       *string `json:"city"`
	Country    *string `json:"country"`
	Line1      *string `json:"line1"`
	Line2      *string `json:"line2"`
	PostalCode *string `json:"postal_code"`
	State      *string `json:"state"`
}

// An addressChange says what shall be different in an address.
type addressChange struct {
	unset      bool // forget all that was there
	city       textChange
	country    textChange
	line1      textChange
	line2      textChange
	postalCode textChange
	state      textChange
}

// address reads name[line1] and so on, and "name=", which removes the address.
func (p *params) address(name string) addressChange {
	text, given := p.value(name)
	if text != "" {
		p.fail("", name, "Invalid %s: expected %s[line1], %s[city] and so on.", name, name, name)
	}
	part := func(key string) textChange { return p.text(name+"["+key+"]", maxTextLength) }
	return addressChange{
		unset:      given,
		city:       part("city"),
		country:    part("country"),
		line1:      part("line1"),
		line2:      part("line2"),
		postalCode: part("postal_code"),
		state:      part("state"),
	}
}

// apply returns what current, which is not changed, becomes; nil when nothing is left of it.
func (c addressChange) apply(current *address) *address {
	var changed address
	if current != nil && !c.unset {
		changed = *current
	}
	changed.City = c.city.apply(changed.City)
	changed.Country = c.country.apply(changed.Country)
	changed.Line1 = c.line1.apply(changed.Line1)
	changed.Line2 = c.line2.apply(changed.Line2)
	changed.PostalCode = c.postalCode.apply(changed.PostalCode)
	changed.State = c.state.apply(changed.State)
	if changed == (address{}) {
		return nil
	}
	return &changed
}
