package pool

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestReplyQueueIsFirstInFirstOut(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var queue replyQueue
	var want []uint32 // the tags that are in it
	next := uint32(1)
	for step := range 20_000 {
		// Phases in which more is pushed than popped and the other way round let the
		// ring grow and wrap around at every position.
		pushes := 6
		if step/1000%2 == 1 {
			pushes = 4
		}
		if random.IntN(10) < pushes {
			queue.push(reply{kind: ReplyParse, tag: next})
			want = append(want, next)
			next++
		} else if len(want) > 0 {
			queue.pop()
			want = want[1:]
		}
		if queue.count != len(want) {
			t.Fatalf("step %d: count %d, want %d", step, queue.count, len(want))
		}
		if len(want) == 0 {
			if queue.head() != nil {
				t.Fatalf("step %d: head of an empty queue", step)
			}
			continue
		}
		if queue.head().tag != want[0] || queue.at(len(want)-1).tag != want[len(want)-1] {
			t.Fatalf("step %d: from %d to %d, want %d to %d", step, queue.head().tag, queue.at(len(want)-1).tag, want[0], want[len(want)-1])
		}
	}
	if size := len(queue.ring); size&(size-1) != 0 {
		t.Errorf("ring of %d entries, want a power of two", size)
	}
}

func TestReplyQueuePopForgetsPointers(t *testing.T) {
	var queue replyQueue
	queue.push(reply{kind: ReplyParse, statement: &Statement{}})
	queue.pop()
	for i := range queue.ring {
		if queue.ring[i] != (reply{}) {
			t.Errorf("entry %d still holds %+v", i, queue.ring[i])
		}
	}
}

func TestReplyQueueKeepsItsStorage(t *testing.T) {
	var queue replyQueue
	for range 8 {
		queue.push(reply{})
	}
	allocations := testing.AllocsPerRun(100, func() {
		queue.pop()
		queue.push(reply{kind: ReplySync})
	})
	if allocations != 0 {
		t.Errorf("%v allocations per push, want 0", allocations)
	}
}

func TestReplyQueueLooks(t *testing.T) {
	for first := range 8 { // wherever the ring begins
		var queue replyQueue
		for range first {
			queue.push(reply{})
		}
		for range first {
			queue.pop()
		}
		if queue.last() != nil || queue.firstAsked() != nil {
			t.Fatal("an empty queue has entries")
		}
		queue.push(reply{kind: ReplyParse, mode: synthesize})
		queue.push(reply{kind: ReplyParse, mode: synthesize, tag: 4})
		if queue.firstAsked() != nil {
			t.Error("nothing was asked")
		}
		queue.push(reply{kind: ReplyBind, tag: 5})
		queue.push(reply{kind: ReplySync})
		if got := queue.firstAsked(); got == nil || got.tag != 5 {
			t.Errorf("asked first: %+v", got)
		}
		if got := queue.last(); got == nil || got.kind != ReplySync {
			t.Errorf("last: %+v", got)
		}
		for count, want := range []uint32{0, 0, 4, 4, 4} {
			if got := queue.lowestTag(count); got != want {
				t.Errorf("lowest tag of %d is %d, want %d", count, got, want)
			}
		}
		queue.removeSecond()
		var got []uint32
		for i := range queue.count {
			got = append(got, queue.at(i).tag)
		}
		if !slices.Equal(got, []uint32{0, 5, 0}) || queue.head().kind != ReplyParse {
			t.Errorf("begin %d: without the second there are tags %v", first, got)
		}
	}
}
