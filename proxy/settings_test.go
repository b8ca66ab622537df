package proxy

import (
	"slices"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool/pooltest"
)

func TestSettingsFollowTheClient(t *testing.T) {
	for name, changes := range sharing {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, changes...)
			a, b, c := f.login("application_name", "a"), f.login("application_name", "b"), f.login()
			a.send("Q|set timezone=UTC")
			a.want("C|SET", "S|TimeZone|UTC", "Z|I")
			for range 5 {
				for i, each := range []*client{a, b, c} {
					each.send("Q|begin", "Q|select 1")
					each.want("C|BEGIN", "Z|T", "T|c", "D|1", "C|SELECT 1", "Z|T")
					var mine *pooltest.Session
					for _, s := range f.pg.Open() {
						if n := len(s.Executed); n > 0 && s.Executed[n-1] == "select 1" {
							mine = s
						}
					}
					want := [][2]string{{"a", "UTC"}, {"b", "Etc/UTC"}, {"", "Etc/UTC"}}[i]
					if got := [2]string{mine.Setting("application_name"), mine.Setting("timezone")}; got != want {
						t.Fatalf("client %d runs with %q, want %q", i, got, want)
					}
					each.send("Q|commit", "Q|select 2")
					each.want("C|COMMIT", "Z|I", "T|c", "D|2", "C|SELECT 1", "Z|I")
				}
			}
		})
	}
}

// DISCARD ALL brings back what the client had at login, not what the server had.
func TestDiscardAll(t *testing.T) {
	for _, mode := range []string{"transaction", "session"} {
		t.Run(mode, func(t *testing.T) {
			f := newFixture(t, oneServer, func(c *Config) {
				if err := c.Pool.Mode.UnmarshalText([]byte(mode)); err != nil {
					t.Fatal(err)
				}
			})
			c := f.login("application_name", "a", "search_path", "mine")
			c.send("Q|set application_name=x")
			c.want("C|SET", "S|application_name|x", "Z|I")
			c.send("Q|discard all", "Q|insert")
			got := pooltest.BackendWords(c.conn.Sent())
			if got[len(got)-1] != "Z|I" || got[len(got)-2] != "C|INSERT 0 1" {
				t.Fatalf("got %q", got)
			}
			reported := map[string]string{}
			for _, word := range got {
				if fields := strings.Split(word, "|"); fields[0] == "S" {
					reported[fields[1]] = fields[2]
				}
			}
			if reported["application_name"] != "a" {
				t.Errorf("the client is told of %v", reported)
			}
			if s := f.server(); s.Setting("application_name") != "a" || s.Setting("search_path") != "mine" {
				t.Errorf("the client runs with %q, %q", s.Setting("application_name"), s.Setting("search_path"))
			}
		})
	}
}

// TestResetIsLost: a RESET that came to nothing holds nothing up.
func TestResetIsLost(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login("application_name", "a")
	c.send("Q|wait", "Q|reset application_name")
	f.server().Terminate()
	f.world.Settle()
	lost := "E|ERROR|57P01|" + terminated
	c.want(lost, "Z|I", lost, "Z|I")
	c.send("Q|begin", "Q|insert", "Q|insert")
	c.want("C|BEGIN", "Z|T", "C|INSERT 0 1", "Z|T", "C|INSERT 0 1", "Z|T")
}

func TestSettingsOfAClientThatIsGone(t *testing.T) {
	for _, words := range [][]string{{"Q|set timezone=UTC", "X"}, {"Q|begin", "Q|set timezone=UTC", "X"}, {"P||set timezone=UTC", "B||", "E|", "S", "X"}} {
		f := newFixture(t, oneServer)
		f.login().send(words...)
		utc := f.login("timezone", "UTC")
		utc.ask("1")
		s := f.server()
		if s.Setting("timezone") != "UTC" {
			t.Errorf("%q: a client with a time zone runs with %q", words, s.Setting("timezone"))
		}
		f.login().ask("1")
		if s.Setting("timezone") != "Etc/UTC" {
			t.Errorf("%q: a client without a time zone runs with %q", words, s.Setting("timezone"))
		}
	}
}

// A parameter that has a keyword in its name can be taken back.
func TestSettingsWithOddNames(t *testing.T) {
	f := newFixture(t, oneServer)
	c := f.login("select.from", "x")
	c.ask("1")
	f.login().ask("2")
	if s := f.server(); !slices.Contains(s.Received, `Q|RESET "select"."from";`) {
		t.Errorf("received %q", s.Received)
	}
}
