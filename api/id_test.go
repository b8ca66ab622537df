package api

import (
	"strings"
	"sync"
	"testing"
	"time"
)

func TestIDsSortByAge(t *testing.T) {
	var ids idSource
	previous, previousAt := ids.next(customerPrefix)
	for range 10_000 {
		id, at := ids.next(customerPrefix)
		if id <= previous || !at.After(previousAt) {
			t.Fatalf("%s at %v follows %s at %v", id, at, previous, previousAt)
		}
		previous, previousAt = id, at
	}
	if !strings.HasPrefix(previous, "cus_") || len(previous) != len("cus_")+timeDigits+16 {
		t.Errorf("id %s", previous)
	}
}

func TestIDsAreUniqueAcrossGoroutines(t *testing.T) {
	var ids idSource
	var seen sync.Map
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 2_000 {
				_, at := ids.next(invoicePrefix)
				if _, twice := seen.LoadOrStore(at, true); twice {
					t.Errorf("time %v was given twice", at)
				}
			}
		})
	}
	group.Wait()
}

func TestFirstIDSeparatesBeforeFromAfter(t *testing.T) {
	var ids idSource
	id, at := ids.next(customerPrefix)
	if first := firstID(customerPrefix, at); first > id {
		t.Errorf("%s is after %s", first, id)
	}
	if next := firstID(customerPrefix, at.Add(time.Microsecond)); next <= id {
		t.Errorf("%s is not after %s", next, id)
	}
	times := []time.Time{
		time.Unix(-1<<40, 0), time.Unix(1, 0), time.UnixMicro(61), time.UnixMicro(62), time.Unix(1_700_000_000, 0),
		time.Unix(253402300799, 0),
	}
	for _, later := range times[1:] {
		if a, b := firstID("", times[0]), firstID("", later); a >= b {
			t.Errorf("%s for %v is not before %s for %v", a, times[0], b, later)
		}
	}
	if a, b := firstID("", time.UnixMicro(61)), firstID("", time.UnixMicro(62)); a >= b {
		t.Errorf("%s is not before %s", a, b)
	}
}
