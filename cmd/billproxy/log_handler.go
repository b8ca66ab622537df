package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// logQueueLength is how many log records wait for a slow standard error before
// further ones are dropped.
const logQueueLength = 4096

// newLogger returns a logger that never blocks and the queue behind it, which the
// caller closes at the end.
func newLogger(ctx context.Context, w io.Writer, format logFormat, level logLevel) (*slog.Logger, *logQueue) {
	options := &slog.HandlerOptions{Level: slog.Level(level)}
	var handler slog.Handler = slog.NewTextHandler(w, options)
	if format == logJSON {
		handler = slog.NewJSONHandler(w, options)
	}
	queue := &logQueue{entries: make(chan logEntry, logQueueLength), handler: handler}
	// Handlers take values from a context; its end means nothing to them.
	ctx = context.WithoutCancel(ctx)
	queue.writer.Go(func() { queue.write(ctx) })
	return slog.New(&logHandler{queue: queue, handler: handler}), queue
}

// logHandler is a slog.Handler that queues records for the handler behind it, so
// that the event loop neither formats nor writes.
type logHandler struct {
	queue   *logQueue
	handler slog.Handler
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.handler.Enabled(ctx, level)
}

// Handle implements slog.Handler. Values are formatted later: they must not
// change once logged.
func (h *logHandler) Handle(_ context.Context, record slog.Record) error {
	h.queue.add(logEntry{h.handler, record.Clone()})
	return nil
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.queue, h.handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.queue, h.handler.WithGroup(name)}
}

// logEntry is a record and who formats it. One without a handler ends the queue.
type logEntry struct {
	handler slog.Handler
	record  slog.Record
}

// logQueue carries records to the goroutine that writes them.
type logQueue struct {
	entries chan logEntry
	handler slog.Handler
	writer  sync.WaitGroup // of write; ended by close

	closed  atomic.Bool
	dropped atomic.Uint64
}

func (q *logQueue) add(entry logEntry) {
	if q.closed.Load() {
		q.dropped.Add(1)
		return
	}
	select {
	case q.entries <- entry:
	default:
		q.dropped.Add(1)
	}
}

// droppedCount is the number of records lost since the start.
func (q *logQueue) droppedCount() uint64 { return q.dropped.Load() }

// close writes what is queued and ends the queue; records that come later are
// dropped. It gives up when ctx ends, as standard error may block for ever.
func (q *logQueue) close(ctx context.Context) {
	q.closed.Store(true)
	select {
	case q.entries <- logEntry{}:
	case <-ctx.Done():
		return
	}
	written := make(chan struct{})
	go func() {
		q.writer.Wait()
		close(written)
	}()
	select {
	case <-written:
	case <-ctx.Done():
	}
}

// write formats and writes until the queue ends. When that fails there is nobody
// to tell.
func (q *logQueue) write(ctx context.Context) {
	reported := uint64(0)
	for entry := range q.entries {
		if dropped := q.dropped.Load(); dropped > reported {
			record := slog.NewRecord(time.Now(), slog.LevelWarn, "log records dropped", 0)
			record.AddAttrs(slog.Uint64("count", dropped-reported))
			_ = q.handler.Handle(ctx, record)
			reported = dropped
		}
		if entry.handler == nil {
			return
		}
		_ = entry.handler.Handle(ctx, entry.record)
	}
}
