package sim

// buffer is a queue of bytes.
type buffer struct {
	b    []byte
	read int
}

func (q *buffer) bytes() []byte { return q.b[q.read:] }

func (q *buffer) len() int { return len(q.b) - q.read }

func (q *buffer) append(p []byte) {
	if q.read == len(q.b) {
		q.b, q.read = q.b[:0], 0
	} else if q.read > 4<<10 && q.read > len(q.b)/2 {
		n := copy(q.b, q.b[q.read:])
		q.b, q.read = q.b[:n], 0
	}
	q.b = append(q.b, p...)
}

func (q *buffer) consume(n int) { q.read += n }

func (q *buffer) retract(n int) { q.b = q.b[:len(q.b)-n] }

func (q *buffer) clear() { q.b, q.read = q.b[:0], 0 }
