package shed

import "bytes"

// Tags is what a comment at the end of a query says of it, as sqlcommenter writes it:
// key='value' pairs, separated by commas. The values are as they are written.
// See https://google.github.io/sqlcommenter/spec.
type Tags struct {
	Tenant         []byte // tenant
	IdempotencyKey []byte // idempotency_key
	Trace          []byte // the trace id of traceparent
	Retry          bool   // attempt is more than 1
	Critical       bool   // priority is critical
}

var (
	commentBegin = []byte("/*")
	commentEnd   = []byte("*/")
)

// CutTags splits the text of a query in what it asks and what the comment at its end
// says. A text without one costs a look at its last bytes.
func CutTags(text []byte) (asked []byte, tags Tags) {
	end := len(text)
	for end > 0 && (text[end-1] == ' ' || text[end-1] == '\n' || text[end-1] == ';' || text[end-1] == 0) {
		end--
	}
	if !bytes.HasSuffix(text[:end], commentEnd) {
		return text, Tags{}
	}
	begin := bytes.LastIndex(text[:end-len(commentEnd)], commentBegin)
	if begin < 0 {
		return text, Tags{}
	}
	comment := text[begin+len(commentBegin) : end-len(commentEnd)]
	for pair := range bytes.SplitSeq(comment, []byte(",")) {
		key, value, ok := bytes.Cut(bytes.TrimSpace(pair), []byte("="))
		if !ok || len(value) < 2 || value[0] != '\'' || value[len(value)-1] != '\'' {
			continue
		}
		tags.set(string(key), value[1:len(value)-1])
	}
	return bytes.TrimRight(text[:begin], " \n"), tags
}

func (t *Tags) set(key string, value []byte) {
	switch key {
	case "tenant":
		t.Tenant = value
	case "idempotency_key":
		t.IdempotencyKey = value
	case "traceparent": // version-trace-parent-flags
		if parts := bytes.SplitN(value, []byte("-"), 3); len(parts) == 3 {
			t.Trace = parts[1]
		}
	case "attempt":
		t.Retry = len(value) > 0 && string(value) != "0" && string(value) != "1"
	case "priority":
		t.Critical = string(value) == "critical"
	}
}
