-- The payment provider simulator's own ledger. It shares nothing with the payment service.

-- One row for each authorisation, and for each key that was voided before it was authorised.
CREATE TABLE authorization_state (
    authorization_key text        PRIMARY KEY CHECK (length(authorization_key) BETWEEN 1 AND 200),
    -- tombstone: voided before it existed; authorising with this key is refused for ever.
    status            text        NOT NULL CHECK (status IN ('open', 'captured', 'voided', 'declined', 'tombstone')),
    order_id          uuid,
    amount_minor      bigint      CHECK (amount_minor >= 0),
    currency          text        CHECK (currency ~ '^[A-Z]{3}$'),
    -- The card's behaviour at capture: true refuses it for ever.
    capture_refused   boolean     NOT NULL DEFAULT false,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CHECK (status = 'tombstone' OR amount_minor IS NOT NULL)
);

-- Every decided request, by its idempotency key: the answer to every repetition.
CREATE TABLE operation (
    idempotency_key   text        PRIMARY KEY CHECK (length(idempotency_key) BETWEEN 1 AND 200),
    kind              text        NOT NULL CHECK (kind IN ('authorize', 'capture', 'void', 'refund')),
    authorization_key text        NOT NULL REFERENCES authorization_state,
    order_id          uuid,
    amount_minor      bigint,
    currency          text,
    outcome           text        NOT NULL CHECK (outcome IN (
        'approved', 'declined', 'captured', 'voided', 'nothing_to_void', 'refused', 'refunded'
    )),
    -- Why, for declined and refused.
    code              text,
    -- The provider's reference.
    reference         text        NOT NULL,
    -- Of the request's fields, so that a key used for another request is told apart.
    request_sha256    bytea       NOT NULL CHECK (octet_length(request_sha256) = 32),
    created_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX operation_by_authorization ON operation (authorization_key, kind);

-- At most one capture of an authorisation, whatever the code does.
CREATE UNIQUE INDEX operation_one_capture ON operation (authorization_key) WHERE outcome = 'captured';

-- How often a card that fails at first was tried.
CREATE TABLE authorization_attempt (
    authorization_key text    PRIMARY KEY,
    attempts          integer NOT NULL
);
