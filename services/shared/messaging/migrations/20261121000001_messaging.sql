-- What every service's database needs to exchange events: outbox, inbox, event log, dead letters.

-- Rows waiting to be published. The relay deletes what the broker acknowledged.
CREATE TABLE outbox (
    shard      smallint    NOT NULL CHECK (shard BETWEEN 0 AND 15),
    seq        bigint      GENERATED ALWAYS AS IDENTITY,
    event_id   uuid        NOT NULL,
    topic      text        NOT NULL,
    key        bytea       NOT NULL,
    headers    jsonb       NOT NULL,
    payload    bytea       NOT NULL CHECK (octet_length(payload) <= 524288),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shard, seq)
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000
);

-- Lock targets: whoever holds a shard's row publishes that shard.
CREATE TABLE outbox_shard (shard smallint PRIMARY KEY);
INSERT INTO outbox_shard SELECT generate_series(0, 15);

-- What was consumed. The day is computed from the event's UUIDv7, so that a duplicate always
-- meets its twin in the same partition.
CREATE TABLE inbox (
    grp         smallint    NOT NULL,
    event_day   date        NOT NULL,
    event_id    uuid        NOT NULL,
    status      text        NOT NULL DEFAULT 'done' CHECK (status IN ('done', 'dead', 'parked')),
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (grp, event_day, event_id)
) PARTITION BY RANGE (event_day);
CREATE TABLE inbox_default PARTITION OF inbox DEFAULT;

-- What was produced, written in the business transaction: the auditor holds the topics against it.
CREATE TABLE event_log (
    event_id   uuid        NOT NULL,
    event_day  date        NOT NULL,
    key        uuid        NOT NULL,
    topic      text        NOT NULL,
    type       text        NOT NULL,
    version    bigint      NOT NULL,
    sha256     bytea       NOT NULL CHECK (octet_length(sha256) = 32),
    at         timestamptz NOT NULL,
    PRIMARY KEY (event_day, event_id)
) PARTITION BY RANGE (event_day);
CREATE TABLE event_log_default PARTITION OF event_log DEFAULT;
CREATE INDEX event_log_key ON event_log (key);

-- Keys with a dead letter: their later events wait in `parked` for an operator.
CREATE TABLE parked_key (
    grp   smallint    NOT NULL,
    key   bytea       NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (grp, key)
);

-- The dead letter of a key (with a reason) and the events that came after it, in order.
CREATE TABLE parked (
    seq          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    grp          smallint    NOT NULL,
    key          bytea       NOT NULL,
    event_id     uuid        NOT NULL,
    topic        text        NOT NULL,
    kafka_partition integer  NOT NULL,
    kafka_offset bigint      NOT NULL,
    headers      jsonb       NOT NULL,
    payload      bytea       NOT NULL,
    reason       text,
    detail       text,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (grp, event_id)
);
CREATE INDEX parked_by_key ON parked (grp, key, seq);

-- The oldest schema that binaries of this version can still work with.
CREATE TABLE schema_compatibility (
    component      text   PRIMARY KEY,
    min_compatible bigint NOT NULL
);

-- Creates the day partitions from `keep_days` back to two days ahead and drops older ones. Safe to call at any time and from any number of sessions.
CREATE FUNCTION maintain_partitions(keep_days integer) RETURNS void
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = public
AS
$$
DECLARE
    parent text;
    day    date;
    child  record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('portolan.maintain_partitions'));
    FOREACH parent IN ARRAY ARRAY ['inbox', 'event_log'] LOOP
        FOR day IN
            SELECT d::date
            FROM generate_series((now() AT TIME ZONE 'UTC')::date - keep_days, (now() AT TIME ZONE 'UTC')::date + 2, '1 day') AS d
        LOOP
            IF to_regclass(format('%s_%s', parent, to_char(day, 'YYYYMMDD'))) IS NULL THEN
                BEGIN
                    EXECUTE format(
                        'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                        parent || '_' || to_char(day, 'YYYYMMDD'), parent, day, day + 1
                    );
                EXCEPTION WHEN check_violation THEN
                    -- The default partition has rows of that day; they are as good there.
                    RAISE WARNING 'no partition of % for %', parent, day;
                END;
            END IF;
        END LOOP;
        FOR child IN
            SELECT c.relname
            FROM pg_inherits i
                JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = parent::regclass
              AND c.relname ~ ('^' || parent || '_[0-9]{8}$')
              AND to_date(right(c.relname, 8), 'YYYYMMDD') < (now() AT TIME ZONE 'UTC')::date - keep_days
        LOOP
            EXECUTE format('DROP TABLE %I', child.relname);
        END LOOP;
    END LOOP;
END
$$;
SELECT maintain_partitions(14);
