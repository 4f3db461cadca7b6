-- The services work with logins that own nothing and may create nothing: what they need of that is this function, which runs
-- with the rights of its owner. So it must not find anything that the caller has put in its way: temporary tables come last,
-- where they would otherwise come first. The partitions that it makes belong to the owner of their parents; they are read and
-- written through these, and the owner's default privileges cover them as well.
ALTER FUNCTION maintain_partitions(integer) SECURITY DEFINER SET search_path = public, pg_temp;

-- It also drops: only for those to whom the owner grants functions.
REVOKE ALL ON FUNCTION maintain_partitions(integer) FROM PUBLIC;
