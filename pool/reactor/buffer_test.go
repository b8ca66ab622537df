package reactor

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestBuffer does the same to buffers of one pool and to plain slices.
func TestBuffer(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	var pool bufferPool
	var buffers [8]buffer
	var want [8][]byte
	var most [8]int // bytes since it was empty
	value := byte(0)
	for range 200_000 {
		i := random.IntN(len(buffers))
		b := &buffers[i]
		switch action := random.IntN(100); {
		case action == 0:
			b.release(&pool)
			want[i] = nil
		case action < 50:
			data := make([]byte, random.IntN(1<<random.IntN(15)))
			for j := range data {
				value++
				data[j] = value
			}
			b.append(&pool, data)
			want[i] = append(want[i], data...)
		default:
			n := random.IntN(b.len() + 1)
			if random.IntN(4) == 0 {
				n = b.len()
			}
			b.consume(&pool, n)
			want[i] = want[i][n:]
		}
		if !bytes.Equal(b.view(), want[i]) || b.len() != len(want[i]) {
			t.Fatalf("buffer %d holds %d bytes, want %d, or they differ", i, b.len(), len(want[i]))
		}
		if b.len() == 0 && b.bytes != nil {
			t.Fatal("an empty buffer holds memory")
		}
		most[i] = max(most[i], b.len())
		if b.len() == 0 {
			most[i] = 0
		}
		if size := cap(b.bytes); size > max(1<<minBufferBits, 4*most[i]) {
			t.Fatalf("%d bytes of memory for at most %d bytes", size, most[i])
		}
	}
}

// TestBufferPoolIsBounded gives back more than it may keep.
func TestBufferPoolIsBounded(t *testing.T) {
	var pool bufferPool
	for _, size := range []int{1, 1 << minBufferBits, 5000, 64 << 10, 1 << maxBufferBits, 1<<maxBufferBits + 1, 64 << 20} {
		var all [][]byte
		for range 3*keptClassBytes/max(size, 1<<minBufferBits) + 3 {
			b := pool.get(size)
			if len(b) != 0 || cap(b) < size {
				t.Fatalf("asked for %d bytes, got %d of %d", size, len(b), cap(b))
			}
			all = append(all, b)
		}
		for _, b := range all {
			pool.put(b)
		}
	}
	for class, free := range pool.free {
		kept := 0
		for _, b := range free {
			if cap(b) != 1<<(class+minBufferBits) {
				t.Errorf("class %d keeps a buffer of %d bytes", class, cap(b))
			}
			kept += cap(b)
		}
		if kept > keptClassBytes {
			t.Errorf("class %d keeps %d bytes", class, kept)
		}
	}
}
