package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/billproxy/billproxy/test/rig"
)

func TestParseOptions(t *testing.T) {
	t.Parallel()
	o, err := parseOptions([]string{"-quick", "-repeat", "9", "-only", "^idle$"}, io.Discard)
	if err != nil || o.repeat != 1 || o.seconds != 1 || !o.Only.MatchString("idle") || o.Only.MatchString("idler") {
		t.Errorf("got %+v, %v", o, err)
	}
	for _, args := range [][]string{{"-repeat", "0"}, {"-seconds", "-1"}, {"-render"}, {"word"}} {
		if _, err := parseOptions(args, io.Discard); err == nil || errors.Is(err, flag.ErrHelp) {
			t.Errorf("%q: %v", args, err)
		}
	}
	for _, args := range [][]string{{"-unknown"}, {"-only", "("}} {
		if _, err := parseOptions(args, io.Discard); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestContests(t *testing.T) {
	t.Parallel()
	direct, proxy := &rig.Target{Name: rig.Direct}, &rig.Target{Name: rig.Billproxy, Program: rig.Command{Path: "x"}}
	reader := &rig.Target{Name: rig.Yardstick, Program: rig.Command{Path: "y"}, ReadsOnly: true}
	var works []string
	for _, c := range contests([]*rig.Target{direct, proxy, reader}, proxy, "scripts", false) {
		for _, e := range c.entrants {
			if name := e.work + " " + e.target.Name; slices.Contains(works, name) {
				t.Errorf("%s twice", name)
			} else {
				works = append(works, name)
			}
			if e.load.sampling <= 0 || e.load.clients < 1 || len(e.load.script) == 0 {
				t.Errorf("%s: %+v", e.work, e.load)
			}
			if e.target.ReadsOnly && (c.writes || e.load.connect) {
				t.Errorf("%s for a target that only reads", e.work)
			}
		}
	}
	for _, want := range []string{
		"select/simple/256 yardstick", "update/prepared/64 billproxy", "update/prepared/64/direct-16 direct",
		"tpcb/extended/32 direct", "fast/beside-slow billproxy", "logins/failing billproxy", "connect/simple/16 direct", "hot/prepared/64 yardstick",
	} {
		if !slices.Contains(works, want) {
			t.Errorf("no %s among %d entrants", want, len(works))
		}
	}
}

func TestReadUntilReady(t *testing.T) {
	t.Parallel()
	const ready = "Z\x00\x00\x00\x05I"
	reader := bufio.NewReaderSize(strings.NewReader("S\x00\x00\x00\x06a\x00"+ready+"Crest"), 16)
	if err := readUntilReady(reader); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(reader); err != nil || string(rest) != "Crest" {
		t.Errorf("left %q, %v", rest, err)
	}
	for _, bad := range []string{"", "Z\x00\x00", "D\x7f\x00\x00\x00", "D\x00\x00\x00\x03", "E\x00\x00\x00\x05\x00" + ready} {
		if err := readUntilReady(bufio.NewReader(strings.NewReader(bad))); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestStartupMessages(t *testing.T) {
	t.Parallel()
	if got, want := appendStartup(nil, "u", "d"), []byte("\x00\x00\x00\x1b\x00\x03\x00\x00user\x00u\x00database\x00d\x00\x00"); !bytes.Equal(got, want) {
		t.Errorf("startup %q, want %q", got, want)
	}
	if got, want := appendQuery(nil, "SELECT 1"), []byte("Q\x00\x00\x00\x0dSELECT 1\x00"); !bytes.Equal(got, want) {
		t.Errorf("query %q, want %q", got, want)
	}
}
