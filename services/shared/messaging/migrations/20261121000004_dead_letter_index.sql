-- A page of dead letters does not read past what waits behind them. The table holds what was set aside and is nearly empty, so it
-- is locked against writers for a moment only; whoever has it for longer makes this fail, to be run again, rather than queue up the
-- consumers.
SET LOCAL lock_timeout = '5s';
CREATE INDEX parked_dead ON parked (grp, seq) WHERE reason IS NOT NULL;
