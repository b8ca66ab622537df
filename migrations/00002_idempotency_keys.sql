-- The answer to every POST made with an Idempotency-Key, written in the transaction of the work itself: either both
-- are there or neither is.

-- +goose Up

CREATE TABLE idempotency_keys (
    key         text COLLATE "C" NOT NULL,
    created_at  timestamptz      NOT NULL DEFAULT now(),
    path        text             NOT NULL,
    fingerprint bytea            NOT NULL,
    status      smallint         NOT NULL,
    -- bytea, not jsonb: a replay repeats the first answer byte for byte, and jsonb reorders keys.
    body        bytea            NOT NULL,

    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (key),
    CONSTRAINT idempotency_keys_key_check CHECK (length(key) BETWEEN 1 AND 255),
    CONSTRAINT idempotency_keys_fingerprint_check CHECK (octet_length(fingerprint) = 32),
    -- A conflict (409), a refusal (429) or a failure (5xx) was not an answer to the request and is never replayed.
    CONSTRAINT idempotency_keys_status_check CHECK (status BETWEEN 200 AND 499 AND status NOT IN (409, 429))
);

CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);
