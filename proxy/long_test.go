package proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/pool/pooltest"
)

// Long messages pass through, and no more of them than is bounded stays here.
func TestLongMessages(t *testing.T) {
	const long = 3 << 20
	for _, piece := range []int{1000, 8 << 10, 100 << 10, 1 << 20} {
		t.Run(fmt.Sprintf("pieces of %d", piece), func(t *testing.T) {
			f := newFixture(t, oneServer)
			c := f.login()
			check := func(words ...string) []string {
				t.Helper()
				b := pooltest.Frontend(words...)
				for len(b) > 0 {
					n := min(piece, len(b))
					c.feed(b[:n])
					b = b[n:]
					if left := c.conn.UnreadBytes(); left > maxParseBytes+piece {
						t.Fatalf("%d bytes are held back", left)
					}
				}
				return pooltest.BackendWords(c.conn.Sent())
			}
			text := "select " + strings.Repeat("7", long)
			got := check("Q|" + text)
			if len(got) != 4 || got[1] != "D|"+text[len("select "):] || got[3] != "Z|I" {
				t.Fatalf("query: %d answers", len(got))
			}
			c.prepare("s", "select 1")
			wantWords(t, "bind", check(fmt.Sprintf("B||s|*%d", long), "E|", "S"), []string{"2", "D|1", "C|SELECT 1", "Z|I"})
			wantWords(t, "copy", check("Q|copy in", fmt.Sprintf("d|*%d", long), "d|1", "c"), []string{"G", "C|COPY 1", "Z|I"})
			wantWords(t, "function call", check(fmt.Sprintf("F|*%d", long)), []string{"V|xxxx", "Z|I"})
			kept := "select " + strings.Repeat("8", maxParseBytes-100)
			got = check("P|long|"+kept, "B||long", "E|", "S")
			if len(got) != 5 || got[2] != "D|"+kept[len("select "):] {
				t.Fatalf("parse of a megabyte: %d answers", len(got))
			}
			if s := f.server(); s.Statements() != 2 {
				t.Errorf("%d statements on the server", s.Statements())
			}
			c.ask("1")
			c.send("X")
			f.checkIdle()
		})
	}
}

// An unnamed statement that is too long to be kept lives on a server that is kept.
func TestLongParse(t *testing.T) {
	text := "select " + strings.Repeat("9", maxParseBytes+1000)
	value := "D|" + text[len("select "):]
	begin := func(t *testing.T) (*fixture, *client) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.send("P||"+text, "S")
		c.want("1", "Z|I")
		if f.stats().ServersLeased != 1 {
			t.Fatalf("stats %+v", f.stats())
		}
		return f, c
	}
	t.Run("is used again", func(t *testing.T) {
		_, c := begin(t)
		for range 2 {
			c.send("DS|", "B||", "E|", "S")
			c.want("t", "T|c", "2", value, "C|SELECT 1", "Z|I")
		}
	})
	for name, words := range map[string][]string{
		"another parse": {"P||select 1", "B||", "E|", "S"},
		"a query":       {"Q|select 1"},
		"a close":       {"CS|", "S"},
		"discard all":   {"P|x|discard all", "B||x", "E|", "S"},
	} {
		t.Run("until "+name, func(t *testing.T) {
			f, c := begin(t)
			c.send(words...)
			if name == "discard all" { // which in PostgreSQL leaves the unnamed statement
				c.send("Q|select 2")
			}
			if f.stats().ServersIdle != 1 {
				t.Errorf("the server is kept for nothing: %+v", f.stats())
			}
		})
	}
	t.Run("after an error elsewhere", func(t *testing.T) {
		_, c := begin(t)
		c.send("E|none", "S")
		c.conn.Sent()
		c.send("B||", "E|", "S")
		c.want("2", value, "C|SELECT 1", "Z|I")
	})
	t.Run("that fails", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.send("P||bad", "S")
		c.conn.Sent()
		f.pg.BadText = text
		c.send("P||"+text, "B||", "E|", "S")
		c.want("E|ERROR|42601|syntax error", "Z|I")
		if f.stats().ServersIdle != 1 {
			t.Errorf("the server is kept for nothing: %+v", f.stats())
		}
	})
	t.Run("with a name", func(t *testing.T) {
		f := newFixture(t, oneServer)
		c := f.login()
		c.send("P|s|"+text, "B||s", "E|", "S", "Q|select 1")
		got := pooltest.BackendWords(c.conn.Sent())
		if len(got) != 6 || !strings.HasPrefix(got[0], fmt.Sprintf("E|ERROR|54000|named prepared statement of %d bytes is too long", len(text)+5)) {
			t.Errorf("answer %q", got)
		}
		wantWords(t, "the rest", got[1:], []string{"Z|I", "T|c", "D|1", "C|SELECT 1", "Z|I"})
		f.checkIdleServers()
	})
	t.Run("and the client goes", func(t *testing.T) {
		f, c := begin(t)
		c.close(pooltest.EOF)
		f.checkIdle()
	})
}
