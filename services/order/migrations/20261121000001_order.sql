-- The order service: orders, the answers to idempotency keys, a guard row for each customer, and
-- the timeline that is built from all topics.

CREATE TABLE orders (
    id              uuid        PRIMARY KEY,
    user_id         text        NOT NULL,
    idempotency_key text        NOT NULL,
    fingerprint     bytea       NOT NULL,
    state           text        NOT NULL CHECK (state IN ('PENDING', 'AWAITING_PAYMENT', 'CONFIRMED', 'COMPLETED', 'CANCELLED')),
    reason          text        CHECK (reason IN ('OUT_OF_STOCK', 'PAYMENT_DECLINED', 'TIMEOUT', 'CUSTOMER', 'CAPTURE_FAILED')),
    amount_minor    bigint      NOT NULL CHECK (amount_minor >= 0),
    currency        text        NOT NULL,
    lines           jsonb       NOT NULL,
    version         bigint      NOT NULL CHECK (version >= 1),
    captured        boolean     NOT NULL DEFAULT false,
    committed       boolean     NOT NULL DEFAULT false,
    deadline        timestamptz NOT NULL,
    traceparent     text        NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    UNIQUE (user_id, idempotency_key),
    CHECK ((state = 'CANCELLED') = (reason IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX orders_by_user ON orders (user_id, created_at DESC, id DESC);
CREATE INDEX orders_pending_deadline ON orders (deadline) WHERE state IN ('PENDING', 'AWAITING_PAYMENT');

-- Every transition of an order, version by version.
CREATE TABLE order_event (
    order_id   uuid        NOT NULL REFERENCES orders (id),
    version    bigint      NOT NULL,
    state      text        NOT NULL,
    reason     text,
    cause      text        NOT NULL,
    at         timestamptz NOT NULL,
    PRIMARY KEY (order_id, version)
);

-- The first answer to an idempotency key. The key itself stays unique on orders for ever.
CREATE TABLE idempotency (
    user_id     text        NOT NULL,
    key         text        NOT NULL,
    fingerprint bytea       NOT NULL,
    order_id    uuid        NOT NULL,
    response    bytea       NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

-- One row a customer: the fence of the lock, the open orders, the statistics.
CREATE TABLE user_guard (
    user_id       text        PRIMARY KEY,
    fence         bigint      NOT NULL,
    open_orders   integer     NOT NULL CHECK (open_orders >= 0),
    orders        bigint      NOT NULL,
    completed     bigint      NOT NULL DEFAULT 0,
    cancelled     bigint      NOT NULL DEFAULT 0,
    last_order_id uuid        NOT NULL,
    last_order_at timestamptz NOT NULL
) WITH (fillfactor = 80);

CREATE TABLE user_spent (
    user_id     text   NOT NULL,
    currency    text   NOT NULL,
    minor_units bigint NOT NULL CHECK (minor_units >= 0),
    PRIMARY KEY (user_id, currency)
);

-- A lease for each customer: contention is refused early. Safety is user_guard's and the unique
-- key's business, so losing these rows in a crash costs nothing: they need no write-ahead log.
CREATE UNLOGGED TABLE user_lock (
    user_id    text        PRIMARY KEY,
    holder     uuid        NOT NULL,
    purpose    text        NOT NULL,
    token      bigint      NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- What happened to an order, told by all services.
CREATE TABLE order_timeline (
    event_id uuid        PRIMARY KEY,
    order_id uuid        NOT NULL,
    type     text        NOT NULL,
    source   text        NOT NULL,
    version  bigint      NOT NULL,
    at       timestamptz NOT NULL,
    trace_id text        NOT NULL,
    detail   text        NOT NULL
);
CREATE INDEX order_timeline_by_order ON order_timeline (order_id, at, event_id);
