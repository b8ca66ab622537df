package reactor

import "math/bits"

// Buffers come in powers of two between these; larger ones are left to the
// garbage collector.
const (
	minBufferBits = 10 // 1 KiB
	maxBufferBits = 20 // 1 MiB

	// keptClassBytes bounds what the free list of one size class keeps, so that
	// the memory of a burst is given back.
	keptClassBytes = 1 << 20
)

// bufferPool is a free list of buffers per size class. It belongs to the loop,
// so it needs no lock, and it hands out the buffer returned last, which is still
// in the processor's cache.
type bufferPool struct {
	free [maxBufferBits - minBufferBits + 1][][]byte
}

// get returns an empty buffer with room for at least size bytes.
func (p *bufferPool) get(size int) []byte {
	class := bufferClass(size)
	if class >= len(p.free) {
		return make([]byte, 0, size)
	}
	if last := len(p.free[class]) - 1; last >= 0 {
		b := p.free[class][last]
		p.free[class][last] = nil
		p.free[class] = p.free[class][:last]
		return b
	}
	return make([]byte, 0, 1<<(class+minBufferBits))
}

// put takes back a buffer of get.
func (p *bufferPool) put(b []byte) {
	class := bufferClass(cap(b))
	if class >= len(p.free) || len(p.free[class])*cap(b) >= keptClassBytes {
		return
	}
	p.free[class] = append(p.free[class], b[:0])
}

func bufferClass(size int) int {
	return max(bits.Len(uint(size-1)), minBufferBits) - minBufferBits
}

// buffer is a byte queue that holds memory only while it holds bytes.
type buffer struct {
	bytes []byte // nil when empty
	head  int    // bytes before it are consumed
}

func (b *buffer) len() int     { return len(b.bytes) - b.head }
func (b *buffer) view() []byte { return b.bytes[b.head:] }

// append copies data to the end. data must not be part of the buffer.
func (b *buffer) append(p *bufferPool, data []byte) {
	if len(data) == 0 {
		return
	}
	size := b.len()
	need := size + len(data)
	switch {
	case len(b.bytes)+len(data) <= cap(b.bytes):
	case b.bytes == nil:
		b.bytes = p.get(need)
	case need <= cap(b.bytes) && size <= b.head:
		// Moving no more than was consumed keeps the cost per byte constant.
		copy(b.bytes, b.view())
		b.bytes, b.head = b.bytes[:size], 0
	default:
		grown := append(p.get(max(need, cap(b.bytes)+1)), b.view()...)
		p.put(b.bytes)
		b.bytes, b.head = grown, 0
	}
	b.bytes = append(b.bytes, data...)
}

// consume drops the first n bytes.
func (b *buffer) consume(p *bufferPool, n int) {
	b.head += n
	if b.head == len(b.bytes) {
		b.release(p)
	}
}

// retract drops the last n bytes.
func (b *buffer) retract(p *bufferPool, n int) {
	b.bytes = b.bytes[:len(b.bytes)-n]
	if b.len() == 0 {
		b.release(p)
	}
}

// release drops all bytes.
func (b *buffer) release(p *bufferPool) {
	if b.bytes != nil {
		p.put(b.bytes)
		b.bytes, b.head = nil, 0
	}
}
