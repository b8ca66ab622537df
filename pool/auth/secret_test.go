package auth

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestNormalize(t *testing.T) {
	for _, test := range []struct{ name, password, want string }{
		{"ASCII", "USER", "USER"},
		{"ASCII control", "a\x07", "a\x07"},
		{"empty", "", ""},
		{"soft hyphen is dropped", "I\u00adX", "IX"},
		{"compatibility form", "\u00aa", "a"},
		{"Roman numeral", "\u2168", "IX"},
		{"composed", "cafe\u0301", "caf\u00e9"},
		{"umlauts", "pässwörd", "pässwörd"},
		{"no-break space", "a\u00a0b", "a b"},
		{"zero width space, as in PostgreSQL", "a\u200bb", "a b"},
		{"prohibited: as it is", "\u00aa\x07", "\u00aa\x07"},
		{"bidirectional: as it is", "\u06271", "\u06271"},
		{"unassigned: as it is", "\u00aa\U0001f600", "\u00aa\U0001f600"},
		{"nothing is left: as it is", "\u00ad", "\u00ad"},
		{"no UTF-8: as it is", "\u00aa\xff", "\u00aa\xff"},
	} {
		if got := normalize(test.password); got != test.want {
			t.Errorf("%s: %q became %q, want %q", test.name, test.password, got, test.want)
		}
	}
}

func TestMD5(t *testing.T) {
	// The example of PgBouncer's manual.
	hash := MD5Hash("admin", "1234")
	if hash != "md545f2603610af569b6155c45067268c6b" {
		t.Errorf("hash %s", hash)
	}
	// md5('45f2603610af569b6155c45067268c6b' || 'salt'), as PostgreSQL computes it.
	if got := MD5Response(hash, [4]byte{'s', 'a', 'l', 't'}); got != "md5926bd9fd46d83f4c49abd41206a8e515" {
		t.Errorf("response %s", got)
	}
	for text, want := range map[string]bool{
		hash: true, hash[:34]: false, hash + "0": false, strings.ToUpper(hash): false, "md5" + strings.Repeat("g", 32): false, "": false,
	} {
		if isMD5Hash(text) != want {
			t.Errorf("%q is a hash: %v", text, !want)
		}
	}
}

func TestSecrets(t *testing.T) {
	hash := MD5Hash("bob", "pencil")
	for _, test := range []struct {
		text, password, md5 string
		verifier            bool
	}{
		{"pencil", "pencil", hash, false},
		{hash, "", hash, false},
		{rfcVerifier, "", "", true},
		{"", "", "", false},
	} {
		s, err := ParseSecret("bob", test.text)
		if err != nil || s.Password() != test.password || s.MD5("bob") != test.md5 || (s.Verifier() != nil) != test.verifier {
			t.Errorf("%q: %q, %q, %v, %v", test.text, s.Password(), s.MD5("bob"), s.Verifier(), err)
		}
		if shown := fmt.Sprintf("%v %+v %#v %s", s, s, s, struct{ S Secret }{s}); strings.Contains(shown, "pencil") || strings.Contains(shown, hash) {
			t.Errorf("shows a secret: %s", shown)
		}
	}
	for _, text := range []string{"SCRAM-SHA-256$", MD5Hash("bob", "")} {
		if _, err := ParseSecret("bob", text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
	s := PasswordSecret("pencil").WithVerifier([]byte("salt"), 2)
	if _, ok := s.Verifier().CheckPassword("pencil"); !ok || s.Verifier().Iterations != 2 {
		t.Errorf("verifier %v", s.Verifier())
	}
	if PasswordSecret("").WithVerifier([]byte("salt"), 2).Verifier() != nil {
		t.Error("an empty password has a verifier")
	}
}

func TestSameSecrets(t *testing.T) {
	parse := func(text string) Secret {
		s, err := ParseSecret("bob", text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	hash := MD5Hash("bob", "pencil")
	texts := []string{"", "pencil", "pencils", hash, MD5Hash("bob", "pencils"), rfcVerifier, strings.Replace(rfcVerifier, "$4096:", "$4097:", 1)}
	for i, a := range texts {
		for j, b := range texts {
			if got := parse(a).Same(parse(b)); got != (i == j) {
				t.Errorf("%q and %q are the same: %v", a, b, got)
			}
		}
		if parse(a).Empty() != (a == "") {
			t.Errorf("%q is empty: %v", a, parse(a).Empty())
		}
	}
	if !parse("pencil").WithVerifier([]byte("salt"), 2).Same(parse("pencil").WithVerifier([]byte("pepper"), 3)) {
		t.Error("verifiers of the same password make a difference")
	}
}

func TestUserlist(t *testing.T) {
	users, err := ParseUserlist("; users\n\n  \"bob\" \"pencil\" ignored \"too\"\r\n\t\"a \"\"b\"\" c\"\t\"p\"\"w;\"\n" +
		"\"hashed\" \"md545f2603610af569b6155c45067268c6b\"\n\"scram\" \"" + rfcVerifier + "\"\n;\"none\" \"x\"\n\"empty\" \"\"\n\"bäcker\"  \"pä ß\"")
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(users)); !slices.Equal(got, []string{`a "b" c`, "bob", "bäcker", "empty", "hashed", "scram"}) {
		t.Errorf("users %q", got)
	}
	for user, password := range map[string]string{"bob": "pencil", `a "b" c`: `p"w;`, "hashed": "", "scram": "", "empty": "", "bäcker": "pä ß"} {
		if got := users[user].Password(); got != password {
			t.Errorf("%s has password %q, want %q", user, got, password)
		}
	}
	if users["scram"].Verifier() == nil || users["hashed"].MD5("hashed") == "" {
		t.Errorf("users %v", users)
	}
}

func TestMalformedUserlists(t *testing.T) {
	for text, want := range map[string]string{
		"bob pencil":                                          "line 1: expected",
		"\"bob\" \"x\"\n\"bill\"":                             "line 2: expected",
		"\"bob\" \"pencil":                                    "line 1: expected",
		"\"bob\" pencil":                                      "line 1: expected",
		"\"bob\n\" \"pencil\"":                                "line 1: expected",
		"\"\" \"pencil\"":                                     "line 1: user name of 0 bytes",
		"\"bob\" \"SCRAM-SHA-256$pencil\"":                    "line 1: malformed SCRAM verifier",
		"\"bob\" \"pencil\"\n\"bob\" \"other\"":               "line 2: user \"bob\" is there twice",
		"\"bob\" \"pen\x00cil\"":                              "line 1: zero byte",
		"\"" + strings.Repeat("b", 128) + "\" \"pencil\"":     "user name of 128 bytes",
		"\"bob\" \"pencil" + strings.Repeat("l", 2048) + "\"": "secret of 2054 bytes",
		"\"bob\" \"" + MD5Hash("bob", "") + "\"; of pencil":   "empty password",
	} {
		_, err := ParseUserlist(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		} else if strings.Contains(err.Error(), "pencil") {
			t.Errorf("%.40q: the error shows a secret: %v", text, err)
		}
	}
}

func FuzzUserlist(f *testing.F) {
	f.Add("\"bob\" \"pencil\" more\n; comment\n", "bill", "p\"w")
	f.Add("\"bob\" \"md545f2603610af569b6155c45067268c6b\"", "a", "")
	f.Fuzz(func(t *testing.T, text, user, password string) {
		users, err := ParseUserlist(text)
		if _, nobody := users[""]; nobody || err != nil && len(users) > 0 {
			t.Fatalf("users %v, error %v", users, err)
		}
		// What is written as the manual says is read back as it was.
		if user == "" || len(user) >= maxUserBytes || len(password) >= maxSecretBytes || strings.ContainsAny(user+password, "\n\x00") ||
			isMD5Hash(password) || strings.HasPrefix(password, verifierPrefix) {
			return
		}
		quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
		users, err = ParseUserlist(quote(user) + " " + quote(password))
		if secret, ok := users[user]; err != nil || !ok || secret.Password() != password {
			t.Fatalf("user %q, password %q was read as %v, %v", user, password, users, err)
		}
	})
}
