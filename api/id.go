package api

import (
	"crypto/rand"
	"sync/atomic"
	"time"
)

// The id prefixes of the objects.
const (
	customerPrefix    = "cus_"
	invoicePrefix     = "in_"
	invoiceItemPrefix = "ii_"
	lineItemPrefix    = "il_"
	paymentPrefix     = "inpay_"
	requestPrefix     = "req_"
)

// idDigits are in ASCII order, so encoded times sort as the times do.
const idDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// timeDigits hold a Unix time in microseconds up to lastMicro, in the year 2398.
const (
	timeDigits = 9
	lastMicro  = 62*62*62*62*62*62*62*62*62 - 1
)

// An idSource makes object ids: a prefix, the microsecond of creation, 80 random bits. Ids sort by age, so a list is a
// range of the primary key, a cursor needs no look-up, and a filter on the creation time is a range of ids. It is safe
// for concurrent use; the zero value is ready.
type idSource struct {
	latest atomic.Int64 // microseconds since 1970
}

// next returns a new id and the time it encodes, which is the created_at of what it names. Ids of one source never
// repeat a time or go back, so objects of one request keep their order.
func (s *idSource) next(prefix string) (string, time.Time) {
	for {
		latest := s.latest.Load()
		micro := max(time.Now().UnixMicro(), latest+1)
		if s.latest.CompareAndSwap(latest, micro) {
			at := time.UnixMicro(micro).UTC()
			return firstID(prefix, at) + rand.Text()[:16], at
		}
	}
}

// firstID returns the string that sorts before every id made at or after t and after every id made before. Times out of
// reach count as the nearest in reach.
func firstID(prefix string, t time.Time) string {
	var encoded [timeDigits]byte
	micro := min(max(t.UnixMicro(), 0), lastMicro)
	for i := timeDigits - 1; i >= 0; i-- {
		encoded[i] = idDigits[micro%int64(len(idDigits))]
		micro /= int64(len(idDigits))
	}
	return prefix + string(encoded[:])
}
