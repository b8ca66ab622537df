package auth

import (
	"fmt"
	"strings"
)

// Bounds of the fields, as MAX_USERNAME and MAX_PASSWORD in PgBouncer.
const (
	maxUserBytes   = 128
	maxSecretBytes = 2048
)

// ParseUserlist reads PgBouncer's auth_file: lines of "user" "secret", in which a
// double quote is written twice; what follows is ignored, and so are empty lines
// and those that begin with a semicolon. Errors name the line and show nothing of
// it.
func ParseUserlist(text string) (map[string]Secret, error) {
	users := map[string]Secret{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == ';' {
			continue
		}
		user, rest, ok := quoted(line)
		secretText, _, ok2 := quoted(strings.TrimLeft(rest, " \t"))
		switch {
		case !ok || !ok2:
			return nil, fmt.Errorf(`line %d: expected "user" "secret"`, number)
		case user == "" || len(user) >= maxUserBytes:
			return nil, fmt.Errorf("line %d: user name of %d bytes: expected 1 to %d", number, len(user), maxUserBytes-1)
		case len(secretText) >= maxSecretBytes:
			return nil, fmt.Errorf("line %d: secret of %d bytes: expected at most %d", number, len(secretText), maxSecretBytes-1)
		case strings.ContainsRune(user+secretText, 0):
			return nil, fmt.Errorf("line %d: zero byte", number)
		}
		if _, twice := users[user]; twice {
			return nil, fmt.Errorf("line %d: user %q is there twice", number, user)
		}
		secret, err := ParseSecret(user, secretText)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		users[user] = secret
	}
	return users, nil
}

// quoted reads a field in double quotes.
func quoted(s string) (field, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] == '"' {
			if i+1 == len(s) || s[i+1] != '"' {
				return b.String(), s[i+1:], true
			}
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}
