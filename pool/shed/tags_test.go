package shed

import (
	"fmt"
	"testing"
)

func TestCutTags(t *testing.T) {
	const trace = "00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01"
	for _, c := range []struct{ text, asked, want string }{
		{"select 1", "select 1", "{   false false}"},
		{"", "", "{   false false}"},
		{"*/", "*/", "{   false false}"},
		{"/*/", "/*/", "{   false false}"},
		{"select 1 /* hello */", "select 1", "{   false false}"},
		{"select 1 /*tenant='acme'*/", "select 1", "{acme   false false}"},
		{"select 1 /*tenant='acme'*/;", "select 1", "{acme   false false}"},
		{"select 1/*tenant='acme'*/ ; \n", "select 1", "{acme   false false}"},
		{"select 1 /*attempt='1'*/", "select 1", "{   false false}"},
		{"select 1 /*attempt='2',idempotency_key='k%201'*/", "select 1", "{ k%201  true false}"},
		{"select 1 /*attempt=''*/", "select 1", "{   false false}"},
		{"select 1 /*traceparent='" + trace + "', priority='critical'*/", "select 1", "{  5bd66ef5095369c7b0d1f8f4bd33716a false true}"},
		{"select 1 /*traceparent='nonsense'*/", "select 1", "{   false false}"},
		{"select 1 /*tenant=acme,tenant='*/", "select 1", "{   false false}"},
		{"select /*tenant='acme'*/ 1", "select /*tenant='acme'*/ 1", "{   false false}"},
		{"select 1 /*tenant='a'*/ /*tenant='b'*/", "select 1 /*tenant='a'*/", "{b   false false}"},
	} {
		asked, tags := CutTags([]byte(c.text))
		got := fmt.Sprintf("{%s %s %s %v %v}", tags.Tenant, tags.IdempotencyKey, tags.Trace, tags.Retry, tags.Critical)
		if string(asked) != c.asked || got != c.want {
			t.Errorf("%q: %q, %s; want %q, %s", c.text, asked, got, c.asked, c.want)
		}
	}
}

func FuzzCutTags(f *testing.F) {
	f.Add([]byte("select 1 /*tenant='acme',attempt='2',traceparent='00-a-b-c'*/;"))
	f.Fuzz(func(t *testing.T, text []byte) {
		asked, _ := CutTags(text)
		if len(asked) > len(text) || string(asked) != string(text[:len(asked)]) {
			t.Errorf("%q asks %q", text, asked)
		}
	})
}

func TestCutTagsAllocatesNothing(t *testing.T) {
	plain := []byte("select 1 from invoices where id = $1")
	tagged := []byte("select 1 /*tenant='acme',attempt='2'*/")
	if allocations := testing.AllocsPerRun(100, func() {
		CutTags(plain)
		CutTags(tagged)
	}); allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}
