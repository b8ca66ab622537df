package api

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseForm(t *testing.T) {
	tests := []struct {
		name    string
		encoded string
		want    form // nil: refused
	}{
		{"empty", "", form{}},
		{"scalar", "a=1", form{"a": {"1"}}},
		{"empty value", "a=", form{"a": {""}}},
		{"no value", "a", form{"a": {""}}},
		{"empty pairs", "&&a=1&", form{"a": {"1"}}},
		{"plus and percent", "a=l%2B1+x%26y", form{"a": {"l+1 x&y"}}},
		{"equals in the value", "a=b=c", form{"a": {"b=c"}}},
		{"semicolon is text", "a=1;b=2", form{"a": {"1;b=2"}}},
		{"nested", "a[b][c]=1", form{"a[b][c]": {"1"}}},
		{"nested and escaped", "a%5Bb%5D=1", form{"a[b]": {"1"}}},
		{"appended", "a[]=1&a[]=2", form{"a[]": {"1", "2"}}},
		{"indexed", "a[1]=x&a[0]=y", form{"a[1]": {"x"}, "a[0]": {"y"}}},
		{"array of objects", "a[0][b]=1", form{"a[0][b]": {"1"}}},
		{"unicode", "a=%C3%A4&ü=1", form{"a": {"ä"}, "ü": {"1"}}},
		{"deepest", "a[b][c][d][e]=1", form{"a[b][c][d][e]": {"1"}}},

		{"too deep", "a[b][c][d][e][f]=1", nil},
		{"twice", "a=1&a=1", nil},
		{"twice, nested", "a[b]=1&a%5Bb]=2", nil},
		{"no name", "=1", nil},
		{"no base", "[a]=1", nil},
		{"open bracket", "a[b=1", nil},
		{"stray closing", "a]b=1", nil},
		{"text after bracket", "a[b]c=1", nil},
		{"nested bracket", "a[[b]]=1", nil},
		{"empty key inside", "a[][b]=1", nil},
		{"bad escape", "a=%4", nil},
		{"bad escape in the name", "%g=1", nil},
		{"NUL", "a=%00", nil},
		{"NUL in the name", "a%00=1", nil},
		{"not UTF-8", "a=%ff", nil},
		{"not UTF-8 in the name", "%ff=1", nil},
		{"long name", strings.Repeat("a", maxFormKeyBytes+1) + "=1", nil},
		{"many", strings.Repeat("a[]=1&", maxFormKeys), nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseForm(test.encoded)
			if test.want == nil {
				if err == nil || err.status != 400 || err.kind != typeInvalidRequest || err.message == "" {
					t.Errorf("got %v, %+v; want a refusal", got, err)
				}
				return
			}
			if err != nil || !equalForms(got, test.want) {
				t.Errorf("got %v, %v; want %v", got, err, test.want)
			}
		})
	}
}

func equalForms(a, b form) bool {
	if len(a) != len(b) {
		return false
	}
	for name, values := range a {
		if !slices.Equal(values, b[name]) {
			return false
		}
	}
	return true
}

func TestFormList(t *testing.T) {
	tests := []struct {
		encoded string
		want    []string
	}{
		{"", nil},
		{"e[]=a&e[]=b", []string{"a", "b"}},
		{"e[1]=b&e[0]=a", []string{"a", "b"}},
		{"e[10]=c&e[9]=b&e[0]=a", []string{"a", "b", "c"}},
		{"e[]=z&e[0]=a", []string{"a", "z"}},
		{"e=a&e[x]=b&e[0][y]=c&ee[0]=d&e[-1]=f", nil}, // none of these is an element of e
	}
	for _, test := range tests {
		parsed, err := parseForm(test.encoded)
		if err != nil {
			t.Fatalf("%s: %v", test.encoded, err)
		}
		values, names := parsed.list("e")
		if !slices.Equal(values, test.want) {
			t.Errorf("%s: got %v, want %v", test.encoded, values, test.want)
		}
		for _, name := range names {
			if parsed[name] == nil {
				t.Errorf("%s: made up the name %q", test.encoded, name)
			}
		}
	}
}

func TestFingerprint(t *testing.T) {
	of := func(encoded string, words ...string) [32]byte {
		parsed, err := parseForm(encoded)
		if err != nil {
			t.Fatal(err)
		}
		return parsed.fingerprint(words...)
	}
	if of("a=1&b=2", "POST") != of("b=2&a=1", "POST") {
		t.Error("the order of parameters counts")
	}
	distinct := map[[32]byte]string{}
	for _, request := range [][]string{
		{"", "POST", "/v1/a"},
		{"", "POST/", "v1/a"},
		{"", "POST"},
		{"a=1", "POST"},
		{"a=2", "POST"},
		{"a=", "POST"},
		{"a=1&b=2", "POST"},
		{"a[]=1&a[]=2", "POST"},
		{"a[]=2&a[]=1", "POST"},
		{"a=1b", "POST"},
		{"a1=b", "POST"},
	} {
		sum := of(request[0], request[1:]...)
		if other, clash := distinct[sum]; clash {
			t.Errorf("%q and %s share a fingerprint", request, other)
		}
		distinct[sum] = strings.Join(request, " ")
	}
}

// FuzzParseForm checks that no input is misread: what is accepted survives being encoded and decoded again, agrees with
// net/url, and stays within the limits.
func FuzzParseForm(f *testing.F) {
	f.Add("a%5Bb%5D%5B%5D=%C3%A4+%00")
	f.Add("=&&%&a[[]]&a]=[")
	f.Fuzz(func(t *testing.T, encoded string) {
		parsed, refusal := parseForm(encoded)
		if refusal != nil {
			if parsed != nil || refusal.status != 400 || !utf8.ValidString(refusal.message) {
				t.Fatalf("refused with %v and %+v", parsed, refusal)
			}
			return
		}
		values := url.Values{}
		for name, list := range parsed {
			if strings.Count(name, "[") >= maxFormDepth || len(name) > maxFormKeyBytes {
				t.Fatalf("name %q is beyond the limits", name)
			}
			for _, value := range list {
				if !isText(value) {
					t.Fatalf("value %q is not text", value)
				}
				values.Add(name, value)
			}
		}
		again, refusal := parseForm(values.Encode())
		if refusal != nil || !equalForms(parsed, again) {
			t.Fatalf("%q is %v, encoded again %v (%v)", encoded, parsed, again, refusal)
		}
		if parsed.fingerprint() != again.fingerprint() {
			t.Fatalf("%q: the fingerprint changed", encoded)
		}
		if reference, err := url.ParseQuery(encoded); err == nil {
			delete(reference, "")
			if !equalForms(parsed, form(reference)) {
				t.Fatalf("%q is %v, net/url says %v", encoded, parsed, reference)
			}
		}
	})
}
