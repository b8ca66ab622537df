package api

import (
	"fmt"
	"maps"
	"net/http"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of parameter values, in characters.
const (
	maxTextLength         = 5000
	maxNameLength         = 256
	maxPhoneLength        = 20
	maxEmailLength        = 512
	maxMetadataKeys       = 50
	maxMetadataKeyLength  = 40
	maxMetadataTextLength = 500
)

// params reads the parameters of one request. Each method names a parameter the request may have, checks it and returns
// its value; the first complaint is kept for [params.finish], so a handler reads straight down. Stripe's convention
// holds throughout: an empty value means "unset".
type params struct {
	request *http.Request
	form    form
	known   map[string]bool // names some method asked for
	err     *apiError       // the first complaint
}

func newParams(r *http.Request, f form) *params {
	return &params{request: r, form: f, known: map[string]bool{}}
}

// finish returns the first complaint, if any. A parameter nobody asked for comes before all others: a misspelt name is
// the likely reason for a missing one.
func (p *params) finish() *apiError {
	for _, name := range p.form.sortedNames() {
		if !p.known[name] {
			return invalidRequest(codeUnknown, name, "Received unknown parameter: %s", name)
		}
	}
	return p.err
}

func (p *params) fail(code, param, format string, args ...any) {
	if p.err == nil {
		p.err = invalidRequest(code, param, format, args...)
	}
}

// pathID returns the id of the object the request's path names. One that no object can have is not looked up.
func (p *params) pathID(object string) string {
	id := p.request.PathValue("id")
	if p.err == nil && (len(id) > maxNameLength || !isText(id)) {
		p.err = notFound(object, shorten(id))
	}
	return id
}

// value returns the single value of name and whether it was given at all.
func (p *params) value(name string) (text string, given bool) {
	p.known[name] = true
	values, given := p.form[name]
	if !given {
		return "", false
	}
	return values[0], true
}

// A textChange is a text parameter: not given, given to be unset, or given with a text.
type textChange struct {
	given bool
	text  string
}

// apply returns what current becomes.
func (c textChange) apply(current *string) *string {
	switch {
	case !c.given:
		return current
	case c.text == "":
		return nil
	default:
		return &c.text
	}
}

// text reads an optional text of at most maxLength characters.
func (p *params) text(name string, maxLength int) textChange {
	text, given := p.value(name)
	if length := utf8.RuneCountInString(text); length > maxLength {
		p.fail("", name, "Invalid %s: it is %d characters long, at most %d are accepted.", name, length, maxLength)
	}
	return textChange{given, text}
}

// email reads an optional address, without a display name.
func (p *params) email(name string) textChange {
	change := p.text(name, maxEmailLength)
	if change.text != "" {
		if parsed, err := mail.ParseAddress(change.text); err != nil || parsed.Address != change.text {
			p.fail(codeEmailInvalid, name, "Invalid email address: %s", shorten(change.text))
		}
	}
	return change
}

// id reads an optional object id: "" when it was not given.
func (p *params) id(name string) string {
	return p.text(name, maxNameLength).text
}

// requiredID reads an object id that must be given.
func (p *params) requiredID(name string) string {
	id := p.id(name)
	if _, given := p.form[name]; !given {
		p.missing(name)
	} else if id == "" {
		p.fail(codeInvalidEmpty, name, "You passed an empty string for '%s'.", name)
	}
	return id
}

func (p *params) missing(name string) {
	p.fail(codeMissing, name, "Missing required param: %s.", name)
}

// choice reads an optional word out of allowed: "" when it was not given.
func (p *params) choice(name string, allowed ...string) string {
	text, _ := p.value(name)
	if text != "" && !slices.Contains(allowed, text) {
		p.fail("", name, "Invalid %s: must be one of %s.", name, strings.Join(allowed, ", "))
	}
	return text
}

// boolean reads an optional "true" or "false": nil when it was not given.
func (p *params) boolean(name string) *bool {
	text := p.choice(name, "true", "false")
	if text == "" {
		return nil
	}
	value := text == "true"
	return &value
}

// integer reads an optional integer between least and most: nil when it was not given.
func (p *params) integer(name string, least, most int64) *int64 {
	text, _ := p.value(name)
	if text == "" {
		return nil
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		p.fail(codeInvalidInteger, name, "Invalid integer: %s", shorten(text))
		return nil
	}
	if value < least || value > most {
		p.fail(codeInvalidInteger, name, "Invalid %s: %d is not between %d and %d.", name, value, least, most)
	}
	return &value
}

// timestamp reads an optional Unix time in seconds: nil when it was not given.
func (p *params) timestamp(name string) *time.Time {
	const year9999 = 253402300799
	seconds := p.integer(name, 0, year9999)
	if seconds == nil {
		return nil
	}
	at := time.Unix(*seconds, 0).UTC()
	return &at
}

// currency reads an optional currency, in either case as Stripe does: "" when it was not given.
func (p *params) currency(name string) string {
	text, _ := p.value(name)
	code := strings.ToLower(text)
	if code != "" && !isCurrency(code) {
		p.fail("", name, "Invalid currency: %s. A lower-case ISO 4217 code is expected, for example usd.", shorten(text))
	}
	return code
}

// exclusive complains when more than one of names was given.
func (p *params) exclusive(names ...string) {
	var given []string
	for _, name := range names {
		if _, ok := p.form[name]; ok {
			given = append(given, name)
		}
	}
	if len(given) > 1 {
		p.fail(codeMutuallyExclusive, given[1], "You may only specify one of these parameters: %s.",
			strings.Join(given, ", "))
	}
}

// A metadataChange says which keys to set, and with "" which to remove.
type metadataChange struct {
	clear bool
	keys  map[string]string
}

// metadata reads metadata[key]=value, metadata[key]= and metadata=, which removes all keys.
func (p *params) metadata() metadataChange {
	const name = "metadata"
	change := metadataChange{keys: map[string]string{}}
	text, given := p.value(name)
	if text != "" {
		p.fail("", name, "Invalid metadata: expected metadata[key]=value.")
	}
	change.clear = given
	for _, given := range p.form.sortedNames() {
		key, ok := p.form.keyOf(given, name)
		if !ok {
			continue
		}
		if utf8.RuneCountInString(key) > maxMetadataKeyLength {
			p.fail("", given, "Metadata keys can be up to %d characters long.", maxMetadataKeyLength)
		}
		change.keys[key] = p.text(given, maxMetadataTextLength).text
	}
	return change
}

// apply returns what current, which is not changed, becomes.
func (c metadataChange) apply(current map[string]string) (map[string]string, *apiError) {
	merged := map[string]string{}
	if !c.clear {
		maps.Copy(merged, current)
	}
	for key, value := range c.keys {
		if value == "" {
			delete(merged, key)
		} else {
			merged[key] = value
		}
	}
	if len(merged) > maxMetadataKeys {
		return nil, invalidRequest("", "metadata", "Metadata can have up to %d keys, this would be %d.",
			maxMetadataKeys, len(merged))
	}
	return merged, nil
}

// expand reads the paths to expand, which must all be among allowed, and reports which were asked for.
func (p *params) expand(allowed ...string) map[string]bool {
	paths, names := p.form.list("expand")
	for _, name := range names {
		p.known[name] = true
	}
	wanted := map[string]bool{}
	for _, path := range paths {
		if !slices.Contains(allowed, path) {
			p.fail("", "expand", "This property cannot be expanded: %s. %s", shorten(path), expandable(allowed))
		}
		wanted[path] = true
	}
	return wanted
}

func expandable(allowed []string) string {
	if len(allowed) == 0 {
		return "Nothing can be expanded here."
	}
	return fmt.Sprintf("Only these can be: %s.", strings.Join(allowed, ", "))
}

// shorten makes text from the client fit for a message.
func shorten(text string) string {
	const maxLength = 80
	text = strings.ToValidUTF8(text, "?")
	if utf8.RuneCountInString(text) <= maxLength {
		return text
	}
	return string([]rune(text)[:maxLength]) + "…"
}
