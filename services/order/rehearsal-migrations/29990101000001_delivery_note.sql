-- Part of no release: with the cargo feature `rehearsal` this is the migration of "the next version", so that an upgrade under
-- load can be practised at any time. Its number is later than that of any migration that will be released.
--
-- It expands only: the old version goes on, because it names the columns that it reads and writes; and since the column may be
-- null and has no default, no row is rewritten. Nobody may wait behind our lock while we wait for it: after three seconds
-- the migration fails and is tried again.
SET LOCAL lock_timeout = '3s';
ALTER TABLE orders ADD COLUMN delivery_note text;
COMMENT ON COLUMN orders.delivery_note IS 'What the customer wants the carrier to know; null if nothing.';
