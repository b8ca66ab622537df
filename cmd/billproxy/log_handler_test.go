package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stuckWriter blocks until it is released.
type stuckWriter struct {
	release chan struct{}
	buffer  bytes.Buffer
}

func (w *stuckWriter) Write(b []byte) (int, error) {
	<-w.release
	return w.buffer.Write(b)
}

func TestLogsAreWrittenInOrderByClose(t *testing.T) {
	var output bytes.Buffer
	logger, logs := newLogger(t.Context(), &output, logJSON, logLevel(slog.LevelInfo))
	logger.Debug("too low")
	logger.Info("first", "number", 1)
	logger.With("session", 7).WithGroup("server").Warn("second", "pid", 9)
	logs.close(t.Context())
	logger.Info("too late")

	lines := strings.Split(strings.TrimSpace(output.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("got %q", output.String())
	}
	var first, second map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil || first["msg"] != "first" || first["number"] != 1.0 {
		t.Errorf("%v: %s", err, lines[0])
	}
	if err := json.Unmarshal([]byte(lines[1]), &second); err != nil || second["session"] != 7.0 ||
		second["server"].(map[string]any)["pid"] != 9.0 {
		t.Errorf("%v: %s", err, lines[1])
	}
	if logs.droppedCount() != 1 {
		t.Errorf("dropped %d, want the one that came too late", logs.droppedCount())
	}
}

func TestSlowWriterDropsInsteadOfBlocking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		writer := &stuckWriter{release: make(chan struct{})}
		logger, logs := newLogger(t.Context(), writer, logText, logLevel(slog.LevelInfo))
		logger.Info("taken by the writer")
		synctest.Wait()
		const tooMany = 10
		for range logQueueLength + tooMany {
			logger.Info("queued")
		}
		if got := logs.droppedCount(); got != tooMany {
			t.Errorf("dropped %d, want %d", got, tooMany)
		}
		close(writer.release)
		logs.close(t.Context())
		text := writer.buffer.String()
		if got := strings.Count(text, "msg=queued"); got != logQueueLength {
			t.Errorf("%d records written, want %d", got, logQueueLength)
		}
		if !strings.Contains(text, `msg="log records dropped" count=10`) {
			t.Error("the loss is not reported")
		}
	})
}

func TestCloseGivesUpOnAStuckWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		writer := &stuckWriter{release: make(chan struct{})}
		logger, logs := newLogger(t.Context(), writer, logText, logLevel(slog.LevelInfo))
		logger.Info("stuck")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		logs.close(ctx)
		if ctx.Err() == nil {
			t.Error("close returned before its time was up")
		}
		close(writer.release)
	})
}

func TestLoggerIsSafeForConcurrentUse(t *testing.T) {
	var output bytes.Buffer
	logger, logs := newLogger(t.Context(), &output, logText, logLevel(slog.LevelInfo))
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for range 100 {
				logger.Info("line", "writer", i)
			}
		})
	}
	writers.Wait()
	logs.close(t.Context())
	if got := strings.Count(output.String(), "msg=line"); got != 800 {
		t.Errorf("%d lines, want 800", got)
	}
}
