-- Customers, invoice items, invoices and payments.
--
-- Money is bigint in minor units (cents). Ids begin with their type and the microsecond they were made, so sorting
-- them as bytes (COLLATE "C") is sorting by age, and every list is a range of the primary key.
--
-- What must never be false about an invoice is written here, not only in the API: a constraint holds for every
-- program that ever writes to these tables.

-- +goose Up

CREATE TABLE customers (
    id                    text COLLATE "C" NOT NULL,
    created_at            timestamptz      NOT NULL,
    email                 text,
    name                  text,
    description           text,
    phone                 text,
    address               jsonb,
    metadata              jsonb            NOT NULL DEFAULT '{}',
    invoice_prefix        text             NOT NULL,
    -- The number the next finalized invoice gets. A row, not a SEQUENCE: a rolled back finalize returns its number.
    next_invoice_sequence bigint           NOT NULL DEFAULT 1,

    CONSTRAINT customers_pkey PRIMARY KEY (id),
    CONSTRAINT customers_id_check CHECK (id LIKE 'cus\_%'),
    CONSTRAINT customers_address_check CHECK (jsonb_typeof(address) = 'object'),
    CONSTRAINT customers_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
    CONSTRAINT customers_invoice_prefix_key UNIQUE (invoice_prefix),
    CONSTRAINT customers_invoice_prefix_check CHECK (invoice_prefix ~ '^[A-Z0-9]{3,12}$'),
    CONSTRAINT customers_next_invoice_sequence_check CHECK (next_invoice_sequence >= 1)
);

CREATE INDEX customers_email_idx ON customers (email, id);

CREATE TABLE invoices (
    id                      text COLLATE "C" NOT NULL,
    created_at              timestamptz      NOT NULL,
    customer_id             text COLLATE "C" NOT NULL,
    status                  text             NOT NULL DEFAULT 'draft',
    currency                text             NOT NULL,
    collection_method       text             NOT NULL DEFAULT 'charge_automatically',
    description             text,
    footer                  text,
    metadata                jsonb            NOT NULL DEFAULT '{}',
    -- The addressee as of the day of issue: a later change of the customer must not change an issued invoice.
    customer_email          text,
    customer_name           text,
    due_at                  timestamptz,

    total                   bigint           NOT NULL DEFAULT 0,
    amount_due              bigint           NOT NULL GENERATED ALWAYS AS (greatest(total, 0)) STORED,
    amount_paid             bigint           NOT NULL DEFAULT 0,
    amount_remaining        bigint           NOT NULL GENERATED ALWAYS AS (greatest(total, 0) - amount_paid) STORED,
    attempt_count           integer          NOT NULL DEFAULT 0,

    number_prefix           text,
    number_sequence         bigint,
    number                  text GENERATED ALWAYS AS (
        number_prefix || '-' || lpad(number_sequence::text, greatest(4, length(number_sequence::text)), '0')
    ) STORED,

    finalized_at            timestamptz,
    paid_at                 timestamptz,
    voided_at               timestamptz,
    marked_uncollectible_at timestamptz,

    CONSTRAINT invoices_pkey PRIMARY KEY (id),
    CONSTRAINT invoices_id_check CHECK (id LIKE 'in\_%'),
    CONSTRAINT invoices_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES customers (id),
    -- What an invoice item's foreign key points at: an item can only join an invoice of its customer and currency.
    CONSTRAINT invoices_id_customer_id_currency_key UNIQUE (id, customer_id, currency),
    CONSTRAINT invoices_status_check CHECK (status IN ('draft', 'open', 'paid', 'void', 'uncollectible')),
    CONSTRAINT invoices_currency_check CHECK (currency ~ '^[a-z]{3}$'),
    CONSTRAINT invoices_collection_method_check
        CHECK (collection_method IN ('charge_automatically', 'send_invoice')),
    CONSTRAINT invoices_due_at_check CHECK ((due_at IS NOT NULL) = (collection_method = 'send_invoice')),
    CONSTRAINT invoices_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
    CONSTRAINT invoices_total_check CHECK (total BETWEEN -99999999 AND 99999999),
    CONSTRAINT invoices_amount_paid_check
        CHECK (amount_paid = CASE status WHEN 'paid' THEN greatest(total, 0) ELSE 0 END),
    CONSTRAINT invoices_attempt_count_check CHECK (attempt_count >= 0),
    CONSTRAINT invoices_number_key UNIQUE (number_prefix, number_sequence),
    CONSTRAINT invoices_number_check CHECK (
        (number_prefix IS NULL) = (status = 'draft') AND (number_sequence IS NULL) = (status = 'draft')
        AND number_sequence >= 1
    ),
    CONSTRAINT invoices_finalized_at_check CHECK ((finalized_at IS NULL) = (status = 'draft')),
    CONSTRAINT invoices_paid_at_check CHECK ((paid_at IS NOT NULL) = (status = 'paid')),
    CONSTRAINT invoices_voided_at_check CHECK ((voided_at IS NOT NULL) = (status = 'void')),
    -- An uncollectible invoice may still be paid or voided, and keeps the day it was given up.
    CONSTRAINT invoices_marked_uncollectible_at_check CHECK (
        CASE status
            WHEN 'uncollectible' THEN marked_uncollectible_at IS NOT NULL
            WHEN 'draft' THEN marked_uncollectible_at IS NULL
            WHEN 'open' THEN marked_uncollectible_at IS NULL
            ELSE true
        END
    )
);

CREATE INDEX invoices_customer_id_idx ON invoices (customer_id, id);
CREATE INDEX invoices_status_idx ON invoices (status, id);

-- One row is both what Stripe calls an invoice item and, once it is on an invoice, that invoice's line item: the two
-- show the same money, so it is stored once.
CREATE TABLE invoice_items (
    id                  text COLLATE "C" NOT NULL,
    created_at          timestamptz      NOT NULL,
    customer_id         text COLLATE "C" NOT NULL,
    currency            text             NOT NULL,
    amount              bigint           NOT NULL,
    quantity            bigint           NOT NULL DEFAULT 1,
    unit_amount_decimal numeric,
    description         text,
    metadata            jsonb            NOT NULL DEFAULT '{}',
    period_start        timestamptz      NOT NULL,
    period_end          timestamptz      NOT NULL,
    invoice_id          text COLLATE "C",
    line_id             text COLLATE "C",

    CONSTRAINT invoice_items_pkey PRIMARY KEY (id),
    CONSTRAINT invoice_items_id_check CHECK (id LIKE 'ii\_%'),
    CONSTRAINT invoice_items_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES customers (id),
    CONSTRAINT invoice_items_invoice_fkey
        FOREIGN KEY (invoice_id, customer_id, currency) REFERENCES invoices (id, customer_id, currency),
    CONSTRAINT invoice_items_currency_check CHECK (currency ~ '^[a-z]{3}$'),
    CONSTRAINT invoice_items_amount_check CHECK (amount BETWEEN -99999999 AND 99999999),
    CONSTRAINT invoice_items_quantity_check CHECK (quantity >= 0),
    CONSTRAINT invoice_items_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
    CONSTRAINT invoice_items_period_check CHECK (period_end >= period_start),
    CONSTRAINT invoice_items_line_id_check CHECK ((line_id IS NULL) = (invoice_id IS NULL) AND line_id LIKE 'il\_%')
);

CREATE INDEX invoice_items_customer_id_idx ON invoice_items (customer_id, id);
CREATE UNIQUE INDEX invoice_items_invoice_id_idx ON invoice_items (invoice_id, line_id) WHERE invoice_id IS NOT NULL;
CREATE INDEX invoice_items_pending_idx ON invoice_items (customer_id, id) WHERE invoice_id IS NULL;

CREATE TABLE invoice_payments (
    id           text COLLATE "C" NOT NULL,
    created_at   timestamptz      NOT NULL,
    invoice_id   text COLLATE "C" NOT NULL,
    status       text             NOT NULL,
    amount       bigint           NOT NULL,
    -- NULL: paid outside of this system, for example by bank transfer.
    payment_method text,

    CONSTRAINT invoice_payments_pkey PRIMARY KEY (id),
    CONSTRAINT invoice_payments_id_check CHECK (id LIKE 'inpay\_%'),
    CONSTRAINT invoice_payments_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES invoices (id),
    CONSTRAINT invoice_payments_status_check CHECK (status IN ('succeeded', 'failed')),
    CONSTRAINT invoice_payments_amount_check CHECK (amount BETWEEN 1 AND 99999999)
);

CREATE INDEX invoice_payments_invoice_id_idx ON invoice_payments (invoice_id, id);
-- An invoice is paid once, whatever two racing callers believe.
CREATE UNIQUE INDEX invoice_payments_succeeded_key ON invoice_payments (invoice_id) WHERE status = 'succeeded';

-- The invoice state machine: born draft, moved along legal edges only, its money frozen when it leaves draft, its
-- numbers without gaps.
-- +goose StatementBegin
CREATE FUNCTION invoices_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.status <> 'draft' THEN
            RAISE EXCEPTION 'invoice % must be created as draft, not %', NEW.id, NEW.status
                USING ERRCODE = 'check_violation', CONSTRAINT = 'invoices_transition';
        END IF;
        RETURN NEW;
    END IF;

    IF TG_OP = 'DELETE' THEN
        IF OLD.status <> 'draft' THEN
            RAISE EXCEPTION 'invoice % is % and cannot be deleted', OLD.id, OLD.status
                USING ERRCODE = 'check_violation', CONSTRAINT = 'invoices_frozen';
        END IF;
        RETURN OLD;
    END IF;

    IF NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
        ('draft', 'open'), ('draft', 'paid'),
        ('open', 'paid'), ('open', 'void'), ('open', 'uncollectible'),
        ('uncollectible', 'paid'), ('uncollectible', 'void')
    ) THEN
        RAISE EXCEPTION 'invoice % cannot go from % to %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'invoices_transition';
    END IF;

    IF OLD.status <> 'draft' AND
        (NEW.id, NEW.created_at, NEW.customer_id, NEW.currency, NEW.total, NEW.number_prefix, NEW.number_sequence,
         NEW.finalized_at, NEW.collection_method, NEW.due_at, NEW.customer_email, NEW.customer_name)
        IS DISTINCT FROM
        (OLD.id, OLD.created_at, OLD.customer_id, OLD.currency, OLD.total, OLD.number_prefix, OLD.number_sequence,
         OLD.finalized_at, OLD.collection_method, OLD.due_at, OLD.customer_email, OLD.customer_name)
    THEN
        RAISE EXCEPTION 'invoice % is % and can no longer change', OLD.id, OLD.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'invoices_frozen';
    END IF;

    IF OLD.status = 'draft' AND NEW.number_sequence > 1 AND NOT EXISTS (
        SELECT FROM invoices
        WHERE number_prefix = NEW.number_prefix AND number_sequence = NEW.number_sequence - 1
    ) THEN
        RAISE EXCEPTION 'invoice number %-% would leave a gap', NEW.number_prefix, NEW.number_sequence
            USING ERRCODE = 'check_violation', CONSTRAINT = 'invoices_number_gapless';
    END IF;
    RETURN NEW;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER invoices_guard BEFORE INSERT OR UPDATE OR DELETE ON invoices
    FOR EACH ROW EXECUTE FUNCTION invoices_guard();

-- The lines of an issued invoice never change, and none is added or taken away.
-- +goose StatementBegin
CREATE FUNCTION invoice_items_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- FOR SHARE waits for a finalize in flight, so the status read here is still true at commit.
    PERFORM FROM invoices
    WHERE id IN (
        CASE WHEN TG_OP <> 'INSERT' THEN OLD.invoice_id END,
        CASE WHEN TG_OP <> 'DELETE' THEN NEW.invoice_id END
    ) AND status <> 'draft'
    FOR SHARE;
    IF FOUND THEN
        RAISE EXCEPTION 'an invoice that is no longer a draft cannot gain, lose or change lines'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'invoice_items_frozen';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER invoice_items_guard BEFORE INSERT OR UPDATE OR DELETE ON invoice_items
    FOR EACH ROW EXECUTE FUNCTION invoice_items_guard();

-- At commit the invoice's total is the sum of its lines and its amount paid the sum of its payments. Deferred, because
-- in between one of the two is written first.
-- +goose StatementBegin
CREATE FUNCTION invoices_check_sums(checked_id text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM invoices
    WHERE id = checked_id AND (
        total <> (SELECT coalesce(sum(amount), 0) FROM invoice_items WHERE invoice_id = checked_id)
        OR amount_paid <> (
            SELECT coalesce(sum(amount), 0) FROM invoice_payments
            WHERE invoice_id = checked_id AND status = 'succeeded'
        )
    );
    IF FOUND THEN
        RAISE EXCEPTION 'invoice % does not add up', checked_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'invoices_sums';
    END IF;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION invoices_sums() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM invoices_check_sums(NEW.id);
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE CONSTRAINT TRIGGER invoices_sums AFTER INSERT OR UPDATE OF total, amount_paid ON invoices
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invoices_sums();

-- Lines and payments both name their invoice in invoice_id.
-- +goose StatementBegin
CREATE FUNCTION invoice_parts_sums() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.invoice_id IS NOT NULL THEN
        PERFORM invoices_check_sums(OLD.invoice_id);
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.invoice_id IS NOT NULL THEN
        PERFORM invoices_check_sums(NEW.invoice_id);
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE CONSTRAINT TRIGGER invoice_items_sums AFTER INSERT OR UPDATE OR DELETE ON invoice_items
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invoice_parts_sums();
CREATE CONSTRAINT TRIGGER invoice_payments_sums AFTER INSERT OR UPDATE OR DELETE ON invoice_payments
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invoice_parts_sums();
