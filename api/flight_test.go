package api

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errFailed = errors.New("failed")
	anAnswer  = response{status: http.StatusOK, body: []byte("{}")}
)

func flightKey() idempotencyKey {
	return idempotencyKey{value: "k", path: "/v1/customers", fingerprint: form{}.fingerprint()}
}

func recordedFor(key idempotencyKey) outcome {
	return outcome{anAnswer, &recordedAnswer{
		Path: key.path, Fingerprint: key.fingerprint[:], Status: anAnswer.status, Body: anAnswer.body,
	}}
}

func TestDuplicateWaitsForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights
		key := flightKey()
		runs := 0
		slow := func() (outcome, error) {
			runs++
			time.Sleep(duplicateWait / 2)
			return recordedFor(key), nil
		}
		for range 5 {
			go func() {
				resp, err := f.do(t.Context(), key, slow)
				if err != nil || string(resp.body) != "{}" {
					t.Errorf("%+v, %v", resp, err)
				}
			}()
		}
		time.Sleep(duplicateWait)
		synctest.Wait()
		if runs != 1 || len(f.byKey) != 0 {
			t.Errorf("%d runs, %d flights left", runs, len(f.byKey))
		}
	})
}

func TestDuplicateIsRefusedAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights
		key := flightKey()
		finish := make(chan struct{})
		first := make(chan error, 1)
		go func() {
			_, err := f.do(t.Context(), key, func() (outcome, error) { <-finish; return recordedFor(key), nil })
			first <- err
		}()
		synctest.Wait()
		start := time.Now()
		_, err := f.do(t.Context(), key, func() (outcome, error) { panic("must not run") })
		refusal, ok := errors.AsType[*apiError](err)
		if !ok || refusal.code != codeIdempotencyKeyInUse || refusal.retry != retryYes {
			t.Errorf("got %v", err)
		}
		if waited := time.Since(start); waited != duplicateWait {
			t.Errorf("waited %v, want %v", waited, duplicateWait)
		}
		close(finish)
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

func TestDuplicateTakesThePlaceOfOneThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights
		key := flightKey()
		go func() {
			_, err := f.do(t.Context(), key, func() (outcome, error) {
				time.Sleep(time.Millisecond)
				return outcome{}, errFailed
			})
			if !errors.Is(err, errFailed) {
				t.Errorf("the first got %v", err)
			}
		}()
		synctest.Wait()
		resp, err := f.do(t.Context(), key, func() (outcome, error) { return recordedFor(key), nil })
		if err != nil || resp.header.Get("Idempotent-Replayed") != "" {
			t.Errorf("%+v, %v", resp, err)
		}
	})
}

func TestDuplicateWithOtherParameters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights
		key := flightKey()
		go func() {
			_, err := f.do(t.Context(), key, func() (outcome, error) {
				time.Sleep(time.Millisecond)
				return recordedFor(key), nil
			})
			if err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		other := key
		other.fingerprint = form{"a": {"1"}}.fingerprint()
		_, err := f.do(t.Context(), other, func() (outcome, error) { panic("must not run") })
		if refusal, ok := errors.AsType[*apiError](err); !ok || refusal.kind != typeIdempotency || refusal.status != 400 {
			t.Errorf("got %v", err)
		}
	})
}

func TestDuplicateWhoseClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights
		key := flightKey()
		go func() {
			_, _ = f.do(t.Context(), key, func() (outcome, error) {
				time.Sleep(time.Millisecond)
				return recordedFor(key), nil
			})
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := f.do(ctx, key, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Second)
	})
}

func TestPanicEndsTheFlight(t *testing.T) {
	var f flights
	key := flightKey()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = f.do(t.Context(), key, func() (outcome, error) { panic("broken") })
	}()
	if len(f.byKey) != 0 {
		t.Error("the key is in use for good")
	}
}
