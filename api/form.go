package api

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of a form. The body itself is bounded by maxBodyBytes.
const (
	maxFormKeys     = 1000
	maxFormKeyBytes = 200
	maxFormDepth    = 5 // a[b][c][d][e]
)

// A form is a decoded application/x-www-form-urlencoded body or query. Names keep Stripe's bracket notation,
// "address[line1]" or "expand[]"; only a name that ends in "[]" has more than one value.
type form map[string][]string

// parseForm decodes encoded, which must be well-formed: a parameter that is given twice, or that cannot be understood,
// is refused rather than guessed at. Only an [apiError] is returned.
func parseForm(encoded string) (form, *apiError) {
	if count := strings.Count(encoded, "&") + 1; count > maxFormKeys {
		return nil, invalidRequest("", "", "The request has %d parameters; at most %d are accepted.", count, maxFormKeys)
	}
	parsed := form{}
	for pair := range strings.SplitSeq(encoded, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, nameErr := url.QueryUnescape(rawName)
		value, valueErr := url.QueryUnescape(rawValue)
		if nameErr != nil || valueErr != nil {
			return nil, invalidRequest("", "", "The request is not valid form encoding: a '%%' must be followed by "+
				"two hexadecimal digits.")
		}
		if err := checkFormName(name); err != nil {
			return nil, err
		}
		if !isText(value) {
			return nil, invalidRequest("", name, "The value of %s is not text: it must be UTF-8 without NUL bytes.", name)
		}
		if len(parsed[name]) > 0 && !strings.HasSuffix(name, "[]") {
			return nil, invalidRequest("", name, "The parameter %s was given more than once.", name)
		}
		parsed[name] = append(parsed[name], value)
	}
	return parsed, nil
}

// isText reports whether s can be stored: PostgreSQL's text is UTF-8 and holds no NUL.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}

// checkFormName accepts name[key][key]… with an empty key only at the end.
func checkFormName(name string) *apiError {
	if len(name) > maxFormKeyBytes {
		return invalidRequest("", "", "A parameter's name is %d bytes long; at most %d are accepted.", len(name), maxFormKeyBytes)
	}
	base, keys, nested := strings.Cut(name, "[")
	malformed := invalidRequest("", "", "Invalid parameter name %q: expected name, name[key] or name[].", name)
	if base == "" || strings.Contains(base, "]") || !isText(name) {
		return malformed
	}
	if !nested {
		return nil
	}
	keys, closed := strings.CutSuffix(keys, "]")
	if !closed {
		return malformed
	}
	path := strings.Split(keys, "][")
	if len(path) >= maxFormDepth {
		return invalidRequest("", "", "The parameter %s is nested too deeply; at most %d levels are accepted.", name, maxFormDepth)
	}
	for i, key := range path {
		if strings.ContainsAny(key, "[]") || key == "" && i < len(path)-1 {
			return malformed
		}
	}
	return nil
}

// list returns the values of a list, given as name[], as name[0], name[1]…, or both, with the names that carried them.
func (f form) list(name string) (values, names []string) {
	type element struct {
		index int
		name  string
	}
	var indexed []element
	for given := range f {
		key, isKey := f.keyOf(given, name)
		if index, err := strconv.ParseUint(key, 10, 31); isKey && err == nil {
			indexed = append(indexed, element{int(index), given})
		}
	}
	slices.SortFunc(indexed, func(a, b element) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.name, b.name))
	})
	for _, e := range indexed {
		values, names = append(values, f[e.name]...), append(names, e.name)
	}
	if appended := f[name+"[]"]; appended != nil {
		values, names = append(values, appended...), append(names, name+"[]")
	}
	return values, names
}

// keyOf returns the key of given, a name such as "metadata[plan]", when it is directly under name.
func (form) keyOf(given, name string) (key string, ok bool) {
	rest, ok := strings.CutPrefix(given, name+"[")
	if !ok {
		return "", false
	}
	key, ok = strings.CutSuffix(rest, "]")
	return key, ok && key != "" && !strings.Contains(key, "]")
}

// sortedNames returns the names in order.
func (f form) sortedNames() []string {
	names := make([]string, 0, len(f))
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// fingerprint returns a hash of f and the given words that does not depend on the order of the parameters. Every part
// is hashed with its length, so that no two requests share a fingerprint by moving a character between parts.
func (f form) fingerprint(words ...string) [sha256.Size]byte {
	var encoded []byte
	add := func(part string) {
		encoded = binary.AppendUvarint(encoded, uint64(len(part)))
		encoded = append(encoded, part...)
	}
	for _, word := range words {
		add(word)
	}
	for _, name := range f.sortedNames() {
		for _, value := range f[name] {
			add(name)
			add(value)
		}
	}
	return sha256.Sum256(encoded)
}
