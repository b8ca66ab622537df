package auth

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// The example of RFC 7677, and the verifier that PostgreSQL makes of it.
const (
	rfcClientFirst = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
	rfcServerFirst = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	rfcClientFinal = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	rfcServerFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
	rfcVerifier    = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$" +
		"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)

func rfcServer(tb testing.TB) *SCRAMServer {
	tb.Helper()
	verifier, err := ParseVerifier(rfcVerifier)
	if err != nil {
		tb.Fatal(err)
	}
	return &SCRAMServer{verifier: verifier, ourNonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"}
}

// text is what PostgreSQL stores.
func (v Verifier) text() string {
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", v.Iterations, encode(v.Salt), encode(v.StoredKey[:]), encode(v.ServerKey[:]))
}

func TestServerOfTheRFC(t *testing.T) {
	s := rfcServer(t)
	if got, err := s.First([]byte(rfcClientFirst)); got != rfcServerFirst || err != nil {
		t.Fatalf("server-first-message %q, %v", got, err)
	}
	reply, keys, ok, err := s.Final([]byte(rfcClientFinal))
	if reply != rfcServerFinal || !ok || err != nil {
		t.Fatalf("server-final-message %q, %v, %v", reply, ok, err)
	}
	if want := DeriveKeys("pencil", s.verifier.Salt, 4096); keys != want {
		t.Error("the keys recovered from the proof are not those of the password")
	}
}

func TestClientOfTheRFC(t *testing.T) {
	c := &SCRAMClient{nonce: "rOprNGfwEbeRWgbNEkqO"}
	salt, iterations, err := c.Challenge([]byte(rfcServerFirst))
	if err != nil || base64.StdEncoding.EncodeToString(salt) != "W22ZaJ0SNY7soEsUEjb6gQ==" || iterations != 4096 {
		t.Fatalf("salt %x, %d iterations, %v", salt, iterations, err)
	}
	// The RFC's client repeats the user's name; ours, as libpq, does not.
	final := c.Final(DeriveKeys("pencil", salt, iterations))
	s := rfcServer(t)
	if _, err := s.First([]byte(c.First())); err != nil {
		t.Fatal(err)
	}
	reply, _, ok, err := s.Final([]byte(final))
	if !ok || err != nil {
		t.Fatalf("the proof %q is refused: %v", final, err)
	}
	if err := c.Verify([]byte(reply)); err != nil || !c.Done() {
		t.Errorf("the server's proof is refused: %v", err)
	}
}

func TestVerifierOfTheRFC(t *testing.T) {
	parsed, err := ParseVerifier(rfcVerifier)
	if err != nil {
		t.Fatal(err)
	}
	if made := NewVerifier("pencil", parsed.Salt, parsed.Iterations); made.text() != rfcVerifier || parsed.text() != rfcVerifier {
		t.Errorf("verifiers %q and %q, want %q", made.text(), parsed.text(), rfcVerifier)
	}
	if _, ok := parsed.CheckPassword("pencil"); !ok {
		t.Error("the password is refused")
	}
	if _, ok := parsed.CheckPassword("pencils"); ok {
		t.Error("a wrong password is accepted")
	}
	for _, shown := range []string{fmt.Sprint(parsed), fmt.Sprintf("%+v %#v", parsed, parsed)} {
		if strings.Contains(shown, "WG5d8oPm3") || strings.Contains(shown, "wfPLwcE6n") {
			t.Errorf("shows keys: %s", shown)
		}
	}
}

func TestMalformedVerifiers(t *testing.T) {
	for _, text := range []string{
		"", "SCRAM-SHA-256", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096", "scram" + rfcVerifier,
		strings.Replace(rfcVerifier, "4096", "0", 1), strings.Replace(rfcVerifier, "4096", "-1", 1),
		strings.Replace(rfcVerifier, "4096", "99999999999", 1), strings.Replace(rfcVerifier, "4096", "10000001", 1),
		strings.Replace(rfcVerifier, "W22ZaJ0SNY7soEsUEjb6gQ==", "", 1), strings.Replace(rfcVerifier, "W22Z", "!!!!", 1),
		strings.Replace(rfcVerifier, "WG5d", "", 1), strings.Replace(rfcVerifier, "wfPL", "", 1), rfcVerifier + "AAAA", rfcVerifier + ":",
	} {
		if _, err := ParseVerifier(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestServerRefusesMalformedFirst(t *testing.T) {
	for name, test := range map[string]struct{ message, text string }{
		"empty":            {"", "channel binding flag"},
		"channel binding":  {"p=tls-server-end-point,,n=,r=abc", "selected SCRAM-SHA-256 without channel binding"},
		"flag":             {"x,,n=,r=abc", "channel binding flag"},
		"cut off":          {"n", "channel binding flag"},
		"authorization":    {"n,a=admin,n=,r=abc", "authorization identity"},
		"no header":        {"n,n=,r=abc", "unexpected attribute"},
		"extension":        {"n,,m=x,n=,r=abc", "unsupported SCRAM extension"},
		"no name":          {"n,,r=abc", "expected user name and nonce"},
		"no nonce":         {"n,,n=user", "expected user name and nonce"},
		"empty nonce":      {"n,,n=,r=", "nonce"},
		"unprintable":      {"n,,n=,r=a\x01c", "non-printable"},
		"space":            {"n,,n=,r=a c", "non-printable"},
		"not ASCII":        {"n,,n=,r=aéc", "non-printable"},
		"too long":         {"n,,n=,r=" + strings.Repeat("a", MaxSASLBytes), "longer than 1024"},
		"binding as value": {"-c=", "channel binding flag"},
	} {
		if got, err := rfcServer(t).First([]byte(test.message)); err == nil || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, test.text)
		}
	}
	// What a client says who could bind to a channel, and what is ignored.
	for _, message := range []string{"y,,n=,r=abc", "n,,n=user,r=abc,x=more", "n,,n=a=2Cb,r=abc"} {
		if _, err := rfcServer(t).First([]byte(message)); err != nil {
			t.Errorf("%q: %v", message, err)
		}
	}
}

func TestServerRefusesFinal(t *testing.T) {
	change := func(old, replacement string) string { return strings.Replace(rfcClientFinal, old, replacement, 1) }
	for name, test := range map[string]struct{ message, text string }{
		"empty":         {"", "channel binding attribute"},
		"other header":  {change("biws", "eSws"), "channel binding attribute"},
		"no binding":    {"-c=" + change("c=", ""), "channel binding attribute"},
		"other nonce":   {change("r=rOpr", "r=rOpX"), "nonce does not match"},
		"short nonce":   {change("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", ""), "nonce does not match"},
		"no proof":      {change(",p=", ",q="), "expected a proof"},
		"short proof":   {change("dHzb", ""), "expected a proof"},
		"not base64":    {change("dHzb", "!!!!"), "expected a proof"},
		"behind proof":  {rfcClientFinal + ",x=1", "expected a proof"},
		"too long":      {strings.Repeat("a", MaxSASLBytes+1), "longer than 1024"},
		"changed proof": {change("dHzb", "dHzc"), ""},
		"extension":     {change(",p=", ",x=1,p="), ""}, // it is part of what is proved
	} {
		s := rfcServer(t)
		if _, err := s.First([]byte(rfcClientFirst)); err != nil {
			t.Fatal(err)
		}
		_, keys, ok, err := s.Final([]byte(test.message))
		if ok || keys != (Keys{}) {
			t.Errorf("%s: accepted", name)
		}
		if test.text == "" && err != nil || test.text != "" && (err == nil || !strings.Contains(err.Error(), test.text)) {
			t.Errorf("%s: %v, want %q", name, err, test.text)
		}
		if _, _, ok, err := s.Final([]byte(rfcClientFinal)); ok || err == nil {
			t.Errorf("%s: a second proof is looked at", name)
		}
	}
	if _, _, _, err := rfcServer(t).Final([]byte(rfcClientFinal)); err == nil {
		t.Error("a proof without a challenge is looked at")
	}
}

func TestClientRefusesChallenge(t *testing.T) {
	change := func(old, replacement string) string { return strings.Replace(rfcServerFirst, old, replacement, 1) }
	for name, message := range map[string]string{
		"empty":                "",
		"other nonce":          change("r=rOpr", "r=rOpX"),
		"our nonce":            change("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", ""),
		"unprintable nonce":    change("%hvY", "\x7f"),
		"no salt":              change(",s=", ",q="),
		"empty salt":           change("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
		"salt":                 change("W22Z", "!!!!"),
		"no iterations":        change(",i=4096", ""),
		"zero iterations":      change("4096", "0"),
		"negative iterations":  change("4096", "-4096"),
		"boundless iterations": change("4096", "2147483647"),
		"iterations":           change("4096", "many"),
	} {
		c := &SCRAMClient{nonce: "rOprNGfwEbeRWgbNEkqO"}
		if _, _, err := c.Challenge([]byte(message)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	c := &SCRAMClient{nonce: "rOprNGfwEbeRWgbNEkqO"}
	if err := c.Verify([]byte(rfcServerFinal)); err == nil {
		t.Error("an end before the proof is accepted")
	}
	if _, _, err := c.Challenge([]byte(rfcServerFirst)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Challenge([]byte(rfcServerFirst)); err == nil {
		t.Error("a second challenge is accepted")
	}
}

func TestClientRefusesEnd(t *testing.T) {
	for name, test := range map[string]struct{ message, text string }{
		"empty":           {"", "malformed"},
		"error":           {"e=other-error", `server refuses the SCRAM proof: "other-error"`},
		"other signature": {rfcServerFinal, "has not proved that it knows the password"}, // the user's name is part of it
		"short signature": {"v=AAAA", "malformed"},
		"not base64":      {"v=!", "malformed"},
	} {
		c := &SCRAMClient{nonce: "rOprNGfwEbeRWgbNEkqO"}
		salt, iterations, err := c.Challenge([]byte(rfcServerFirst))
		if err != nil {
			t.Fatal(err)
		}
		c.Final(DeriveKeys("pencil", salt, iterations))
		if err := c.Verify([]byte(test.message)); err == nil || !strings.Contains(err.Error(), test.text) || c.Done() {
			t.Errorf("%s: %v, want %q", name, err, test.text)
		}
	}
}

func TestFakeVerifier(t *testing.T) {
	fake := func(user, secret string) string { return FakeVerifier(user, []byte(secret), 4096).text() }
	if first, second := fake("bob", "s"), fake("bob", "s"); first != second {
		t.Error("the fake of a user changes")
	}
	if fake("bob", "s") == fake("bill", "s") || fake("bob", "s") == fake("bob", "t") {
		t.Error("two fakes are alike")
	}
	if v := FakeVerifier("bob", nil, 4096); len(v.Salt) != SaltBytes || string(v.Salt) == string(v.StoredKey[:SaltBytes]) {
		t.Errorf("verifier %s", v)
	}
}

func TestChooseMechanism(t *testing.T) {
	for list, want := range map[string]struct{ plain, bindable string }{
		"SCRAM-SHA-256\x00\x00":                       {Mechanism, Mechanism},
		"SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00": {Mechanism, MechanismPlus},
		"SCRAM-SHA-256-PLUS\x00\x00":                  {"", MechanismPlus},
		"OAUTHBEARER\x00\x00":                         {},
		"":                                            {},
		"\x00":                                        {},
		"SCRAM-SHA-256":                               {Mechanism, Mechanism},
	} {
		if got, _ := ChooseMechanism([]byte(list), false); got != want.plain {
			t.Errorf("%q: %q, want %q", list, got, want.plain)
		}
		if got, _ := ChooseMechanism([]byte(list), true); got != want.bindable {
			t.Errorf("%q over TLS: %q, want %q", list, got, want.bindable)
		}
	}
}

func FuzzVerifier(f *testing.F) {
	f.Add(rfcVerifier)
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseVerifier(text)
		if err != nil {
			return
		}
		again, err := ParseVerifier(v.text())
		if err != nil || again.text() != v.text() {
			t.Fatalf("%q was read back as %q, %v", v.text(), again.text(), err)
		}
	})
}

func FuzzSCRAMServer(f *testing.F) {
	f.Add(rfcClientFirst, rfcClientFinal)
	f.Add("y,,n=,r=abc,x=1", "c=eSws,r=abc,p=")
	f.Add("p=tls-server-end-point,,n=,r=abc", "c=cD10bHMtc2VydmVyLWVuZC1wb2ludCws,r=abc,p=")
	f.Fuzz(func(t *testing.T, first, final string) {
		bound := rfcServer(t)
		bound.channel = Channel{EndPoint: []byte("hash"), Bound: true}
		if _, err := bound.First([]byte(first)); err == nil {
			if _, _, ok, _ := bound.Final([]byte(final)); ok {
				t.Fatalf("%q, %q were accepted on an encrypted channel", first, final)
			}
		}
		s := rfcServer(t)
		if _, err := s.First([]byte(first)); err != nil {
			return
		}
		// Nobody finds the password by chance: who gets in has said what the RFC says.
		if _, _, ok, _ := s.Final([]byte(final)); ok && (first != rfcClientFirst || final != rfcClientFinal) {
			t.Fatalf("%q, %q were accepted", first, final)
		}
	})
}

func FuzzSCRAMClient(f *testing.F) {
	f.Add(rfcServerFirst, rfcServerFinal)
	f.Add("r=rOprNGfwEbeRWgbNEkqOx,s=AA==,i=1", "e=other-error")
	keys := DeriveKeys("pencil", []byte("salt"), 1)
	f.Fuzz(func(t *testing.T, first, final string) {
		c := &SCRAMClient{nonce: "rOprNGfwEbeRWgbNEkqO"}
		salt, iterations, err := c.Challenge([]byte(first))
		if err != nil {
			return
		}
		if len(salt) == 0 || iterations < 1 || iterations > maxIterations || strings.Contains(c.serverNonce, ",") {
			t.Fatalf("challenge %q gives salt %x, %d iterations, nonce %q", first, salt, iterations, c.serverNonce)
		}
		c.Final(keys)
		if c.Verify([]byte(final)) == nil {
			t.Fatalf("a server without the keys is accepted: %q, %q", first, final)
		}
	})
}
