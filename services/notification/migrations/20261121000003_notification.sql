-- What customers are told about how their orders ended, and what was really handed over.

-- One message per order: an order ends once, so the second kind must not exist (UNIQUE).
CREATE TABLE notification (
    order_id        uuid        NOT NULL UNIQUE,
    kind            text        NOT NULL CHECK (kind IN ('confirmed', 'cancelled')),
    state           text        NOT NULL
        CHECK (state IN ('PENDING', 'SENDING', 'SENT', 'FAILED')),
    -- The same at every attempt: SMTP cannot deduplicate, but readers and the audit can.
    message_id      text        NOT NULL UNIQUE,
    user_id         text        NOT NULL,
    -- What the message says besides its kind.
    amount_minor    bigint,
    currency        text,
    reason          text,
    -- Counted and committed before each attempt.
    attempt         integer     NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_until     timestamptz,
    last_error      text,
    trace           text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at         timestamptz,
    PRIMARY KEY (order_id, kind),
    CONSTRAINT sent_has_a_time CHECK ((state = 'SENT') = (sent_at IS NOT NULL)),
    CONSTRAINT sending_has_a_lease CHECK ((state = 'SENDING') = (lease_until IS NOT NULL))
) WITH (fillfactor = 80);

CREATE INDEX notification_due ON notification (next_attempt_at)
    WHERE state IN ('PENDING', 'SENDING');

-- What the mail server really accepted, once per acceptance; or, without a mail server, what was
-- recorded in its stead. Distinct message ids are what a customer sees.
CREATE TABLE mail_ledger (
    message_id text        NOT NULL,
    attempt    integer     NOT NULL,
    order_id   uuid        NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('confirmed', 'cancelled')),
    via        text        NOT NULL CHECK (via IN ('smtp', 'recorded')),
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (message_id, attempt)
);

-- The component is the name of the migration table.
INSERT INTO schema_compatibility (component, min_compatible)
VALUES ('_sqlx_migrations', 20261121000003);
