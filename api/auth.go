package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// authenticate returns the refusal of a request that carries no accepted API key, else nil. The key is a bearer token,
// or the user name of basic authentication as in `curl -u key:`.
func (s *Server) authenticate(r *http.Request) *apiError {
	if len(s.keys) == 0 {
		return unauthorized("This server accepts no requests because no API keys are configured. " +
			"Set BILLPROXY_API_KEYS to a comma-separated list of keys and restart it.")
	}
	key := requestKey(r)
	if key == "" {
		return unauthorized("You did not provide an API key. You need to provide your API key in the Authorization header, " +
			"using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').")
	}
	// Hashes have one length, and all of them are compared, so the time taken tells nothing about any key.
	given := sha256.Sum256([]byte(key))
	accepted := 0
	for i := range s.keys {
		accepted |= subtle.ConstantTimeCompare(given[:], s.keys[i][:])
	}
	if accepted == 0 {
		return unauthorized("Invalid API Key provided.")
	}
	return nil
}

func requestKey(r *http.Request) string {
	if user, _, ok := r.BasicAuth(); ok {
		return user
	}
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(key)
}

func unauthorized(message string) *apiError {
	return &apiError{status: http.StatusUnauthorized, kind: typeInvalidRequest, message: message}
}
