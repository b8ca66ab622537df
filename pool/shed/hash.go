package shed

import (
	"encoding/binary"
	"math/bits"
)

// Hash is what work is recognised by: its text and parameters, of whom it is, and what
// tags say. It is built up part by part, begins with HashSeed, and is not for use where
// somebody gains by a collision: whoever provokes one has own work taken for a retry.
type Hash uint64

// HashSeed is the hash of nothing.
const HashSeed Hash = 0x9e3779b97f4a7c15

const (
	hashFactor1 = 0xa0761d6478bd642f
	hashFactor2 = 0xe7037ed1a0b428db
)

// Add returns the hash of what h is of, followed by b, which ends there.
func (h Hash) Add(b []byte) Hash {
	state := uint64(h) ^ uint64(len(b))*hashFactor1
	for len(b) >= 8 {
		state = mix(state^binary.LittleEndian.Uint64(b), hashFactor2)
		b = b[8:]
	}
	last := uint64(0)
	for i, c := range b {
		last |= uint64(c) << (8 * i)
	}
	return Hash(mix(state^last, hashFactor1))
}

// AddNumber returns the hash of what h is of, followed by a number.
func (h Hash) AddNumber(n uint64) Hash { return Hash(mix(uint64(h)^n, hashFactor2)) }

func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}
