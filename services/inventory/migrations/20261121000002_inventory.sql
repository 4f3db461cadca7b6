-- The catalogue, the stock, and what is set aside for whom.
--
-- SKUs compare by their bytes (collation "C"): that is the order in which every writer locks stock
-- rows, and the order that names the first missing SKU of a rejected order.

CREATE TABLE product (
    sku         text   COLLATE "C" PRIMARY KEY CHECK (octet_length(sku) BETWEEN 1 AND 64),
    name        text   NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    price_minor bigint NOT NULL CHECK (price_minor > 0),
    currency    text   NOT NULL CHECK (currency ~ '^[A-Z]{3}$')
);

-- Every order updates these rows: half of each page stays free so that updates stay on it (HOT).
CREATE TABLE stock (
    sku       text   COLLATE "C" PRIMARY KEY REFERENCES product,
    on_hand   bigint NOT NULL CHECK (on_hand >= 0),
    available bigint NOT NULL CHECK (available >= 0),
    reserved  bigint NOT NULL CHECK (reserved >= 0),
    CONSTRAINT stock_adds_up CHECK (on_hand = available + reserved)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);

-- One per order. RELEASED without lines is a tombstone: the order was cancelled before it was seen
-- here, and its late `order.placed` must do nothing.
CREATE TABLE reservation (
    order_id      uuid        PRIMARY KEY,
    state         text        NOT NULL
        CHECK (state IN ('RESERVED', 'REJECTED', 'COMMITTED', 'RELEASED')),
    -- Whether the goods had left the stock before: a RELEASED reservation that was committed still
    -- recognises its order's `confirmed` as old news.
    was_committed boolean     NOT NULL DEFAULT false,
    version       bigint      NOT NULL CHECK (version > 0),
    missing_sku   text        COLLATE "C",
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT rejected_names_the_sku CHECK ((state = 'REJECTED') = (missing_sku IS NOT NULL)),
    CONSTRAINT committed_was_committed CHECK (state <> 'COMMITTED' OR was_committed)
) WITH (fillfactor = 80);

-- What was set aside. No foreign keys here or in the ledger: they would lock every stock row once
-- more per line, and the consumer writes both sides in one transaction.
CREATE TABLE reservation_line (
    order_id uuid    NOT NULL,
    sku      text    COLLATE "C" NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, sku)
);

-- Every change of every stock row, ever. `cause` is the order, or the import for the kinds
-- `initial` and `restock`; the primary key makes it impossible to have one effect twice.
CREATE TABLE stock_ledger (
    cause           uuid        NOT NULL,
    sku             text        COLLATE "C" NOT NULL,
    kind            text        NOT NULL
        CHECK (kind IN ('initial', 'restock', 'reserve', 'commit', 'release')),
    delta_on_hand   bigint      NOT NULL,
    delta_available bigint      NOT NULL,
    delta_reserved  bigint      NOT NULL,
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    order_id        uuid GENERATED ALWAYS AS
        (CASE WHEN kind IN ('reserve', 'commit', 'release') THEN cause END) STORED,
    PRIMARY KEY (cause, sku, kind),
    CONSTRAINT deltas_add_up CHECK (delta_on_hand = delta_available + delta_reserved),
    CONSTRAINT kind_has_its_signs CHECK (CASE kind
        WHEN 'initial' THEN delta_available >= 0 AND delta_reserved = 0
        WHEN 'restock' THEN delta_available > 0 AND delta_reserved = 0
        WHEN 'reserve' THEN delta_on_hand = 0 AND delta_reserved > 0
        WHEN 'commit' THEN delta_available = 0 AND delta_reserved < 0
        WHEN 'release' THEN delta_available > 0 AND delta_reserved <= 0 AND delta_on_hand >= 0
    END)
);

-- A SKU has one beginning.
CREATE UNIQUE INDEX stock_ledger_initial ON stock_ledger (sku) WHERE kind = 'initial';

-- The component is the name of the migration table.
INSERT INTO schema_compatibility (component, min_compatible) VALUES ('_sqlx_migrations', 20261121000002);
