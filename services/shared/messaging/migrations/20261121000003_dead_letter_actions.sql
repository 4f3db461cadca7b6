-- What operators did about dead letters, one row for each event that it concerned, written in the transaction that did it.
CREATE TABLE dead_letter_action (
    seq              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at               timestamptz NOT NULL DEFAULT clock_timestamp(),
    operator         text        NOT NULL CHECK (operator <> ''),
    reason           text        NOT NULL CHECK (reason <> ''),
    action           text        NOT NULL CHECK (action IN ('redrive', 'drop')),
    grp              smallint    NOT NULL,
    key              bytea       NOT NULL,
    event_id         uuid        NOT NULL,
    type             text        NOT NULL,
    topic            text        NOT NULL,
    kafka_partition  integer     NOT NULL,
    kafka_offset     bigint      NOT NULL,
    -- Whether it was a dead letter before, or waited behind one.
    was_dead         boolean     NOT NULL,
    -- refused: still cannot be applied, nothing changed; dead: waited, and turned out to be one.
    outcome          text        NOT NULL CHECK (outcome IN ('applied', 'refused', 'dead', 'dropped')),
    detail           text,
    trace_id         text        NOT NULL,
    request_trace_id text        NOT NULL
);
CREATE INDEX dead_letter_action_by_key ON dead_letter_action (grp, key, seq);
CREATE INDEX dead_letter_action_by_event ON dead_letter_action (grp, event_id);

-- Nobody rewrites what was done.
CREATE FUNCTION refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = public, pg_temp
AS
$$
BEGIN
    RAISE EXCEPTION '% is only ever added to', TG_TABLE_NAME;
END
$$;
CREATE TRIGGER dead_letter_action_is_final
    BEFORE UPDATE OR DELETE ON dead_letter_action
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- A dropped event stays known, so that it is not applied when it is delivered again. Not validated against old rows, which
-- satisfy the narrower check: that would hold the consumers up.
ALTER TABLE inbox DROP CONSTRAINT inbox_status_check;
ALTER TABLE inbox ADD CONSTRAINT inbox_status_check CHECK (status IN ('done', 'dead', 'parked', 'dropped')) NOT VALID;
