-- One payment for each order, and what it did with money.

CREATE TABLE payment (
    order_id         uuid        PRIMARY KEY,
    state            text        NOT NULL CHECK (state IN (
        'AUTHORIZING', 'AUTHORIZED', 'DECLINED', 'CAPTURING', 'CAPTURED',
        'CAPTURE_FAILED', 'VOIDING', 'VOIDED', 'CANCELLED'
    )),
    -- Grows by one with every change of state.
    version          bigint      NOT NULL CHECK (version > 0),
    -- Unknown (null) for an order that was cancelled before its reservation was seen.
    amount           bigint      CHECK (amount >= 0),
    currency         text        CHECK (currency ~ '^[A-Z]{3}$'),
    -- The card token; gone as soon as it is not needed any more.
    payment_token    text,
    -- The provider's reference of the authorisation.
    psp_ref          text,
    -- The provider's reason for declining or for refusing to capture.
    code             text,
    -- How often the provider was called for the present step. Committed before the call, so that
    -- zero means: the provider never heard of it. Also the lease's token.
    attempt          integer     NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    -- What the order decided, as far as it was heard here.
    confirmed        boolean     NOT NULL DEFAULT false,
    cancel_requested boolean     NOT NULL DEFAULT false,
    deadline         timestamptz,
    -- When the provider is to be called next; null when there is nothing to call it for.
    next_attempt_at  timestamptz,
    -- Until when one worker has the job for itself.
    lease_until      timestamptz,
    -- The W3C trace context of the event that caused the present step.
    trace            text        NOT NULL DEFAULT '',
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CHECK ((amount IS NULL) = (currency IS NULL)),
    CHECK (amount IS NOT NULL OR state = 'CANCELLED'),
    CHECK ((next_attempt_at IS NOT NULL) = (state IN ('AUTHORIZING', 'CAPTURING', 'VOIDING'))),
    CHECK (payment_token IS NULL OR state = 'AUTHORIZING')
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000
);

-- The jobs of the worker.
CREATE INDEX payment_due ON payment (next_attempt_at) WHERE next_attempt_at IS NOT NULL;

-- What happened to the money, one row for each kind: the primary key makes a second capture of
-- one order impossible to record.
CREATE TABLE payment_ledger (
    order_id uuid        NOT NULL REFERENCES payment,
    kind     text        NOT NULL CHECK (kind IN ('auth', 'capture', 'void', 'refund')),
    amount   bigint      NOT NULL CHECK (amount >= 0),
    currency text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, kind)
);

INSERT INTO schema_compatibility (component, min_compatible)
VALUES ('_sqlx_migrations', 20261121000001);
