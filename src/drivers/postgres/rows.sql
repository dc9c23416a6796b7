-- What stands beside the marks where a workload is the rows of one tenant: which tenants are guarded here.
CREATE TABLE IF NOT EXISTS foreshift.tenant (
  workload text PRIMARY KEY,
  -- What the workloads of all tenants of these tables begin with.
  kin text NOT NULL,
  schema_name text NOT NULL,
  column_name text NOT NULL,
  value text NOT NULL,
  -- The lock that its writers share, and a fence holds alone.
  key bigint NOT NULL,
  guarded boolean NOT NULL,
  -- Every transaction that began later knows that it is guarded.
  since timestamptz,
  -- The digest of the migration that guards it.
  digest text
);

-- Whether rows of a guarded tenant may be written here now; it is asked before each is written. A fence waits for
-- who was let through, and who comes later is refused.
CREATE OR REPLACE FUNCTION foreshift.admit(w text, k bigint, what text) RETURNS void LANGUAGE plpgsql AS $admit$
DECLARE
  mode pg_catalog.text;
  until pg_catalog.timestamptz;
  owner_is pg_catalog.text;
BEGIN
  -- In an expression, which costs a query less.
  IF pg_catalog.pg_advisory_xact_lock_shared(k) IS NOT NULL AND
     pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.=) 'read committed' THEN
    SELECT o.mode, o.until, o.owner_is INTO mode, until, owner_is FROM foreshift.owner o
      WHERE o.workload OPERATOR(pg_catalog.=) w;
  ELSE
    SELECT o.mode, o.until, o.owner_is INTO mode, until, owner_is FROM foreshift.owner o
      WHERE o.workload OPERATOR(pg_catalog.=) w FOR SHARE;
  END IF;
  IF mode OPERATOR(pg_catalog.=) 'writable' THEN
    RETURN;
  END IF;
  IF mode IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'serialization_failure',
      MESSAGE = pg_catalog.format('foreshift: whose %s is changed while this transaction ran', w),
      HINT = 'Try the transaction again.';
  END IF;
  IF mode OPERATOR(pg_catalog.=) 'standby' OR
     mode OPERATOR(pg_catalog.=) 'fenced' AND pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<=) until THEN
    RAISE EXCEPTION USING ERRCODE = 'read_only_sql_transaction',
      MESSAGE = pg_catalog.format('foreshift: rows of %s in %s are not written to here now', w, what),
      HINT = pg_catalog.format('Their owner is %s.', coalesce(owner_is, 'being changed; try again'));
  END IF;
END $admit$;

-- Before TRUNCATE: it takes the rows of every tenant, and is not sent to where one of them moves.
CREATE OR REPLACE FUNCTION foreshift.keep_rows() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $keep$
BEGIN
  IF EXISTS (SELECT FROM foreshift.tenant t WHERE t.kin OPERATOR(pg_catalog.=) TG_ARGV[0] AND t.guarded) THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = pg_catalog.format('foreshift: %s.%s is not truncated: it holds rows of tenants that are moved, or copies of such',
        TG_TABLE_SCHEMA, TG_TABLE_NAME),
      HINT = 'DELETE the rows of your tenant.';
  END IF;
  RETURN NULL;
END $keep$;

-- What the stream of a workload publishes: a row filter does not hold for TRUNCATE.
CREATE OR REPLACE FUNCTION foreshift.publishes(w text) RETURNS text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $publishes$
  SELECT CASE WHEN EXISTS (SELECT FROM foreshift.tenant t WHERE t.workload = w)
    THEN 'insert, update, delete' ELSE 'insert, update, delete, truncate' END
$publishes$;

-- Brings a sequence that others use, too, to where another place's stands; it is never set back. Few numbers
-- are drawn like any other, so nobody waits; for many the sequence is locked. One that begins anew after its
-- last number has no order, and stays as it is.
CREATE OR REPLACE FUNCTION foreshift.advance(s text, named text, last bigint, called boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $advance$
DECLARE
  q regclass := format('%I.%I', s, named)::regclass;
  d pg_sequence;
  here record;
  steps numeric;
BEGIN
  SELECT * INTO STRICT d FROM pg_sequence p WHERE p.seqrelid = q;
  IF d.seqcycle THEN
    RETURN;
  END IF;
  FOR turn IN 1..2 LOOP
    EXECUTE format('SELECT last_value, is_called FROM %s', q) INTO STRICT here;
    steps := ceil((last::numeric - here.last_value) / d.seqincrement)
      + called::int - here.is_called::int;
    IF steps <= 0 THEN
      RETURN;
    ELSIF steps <= 5000 THEN
      PERFORM nextval(q) FROM generate_series(1, steps::int);
      RETURN;
    ELSIF turn = 1 THEN
      -- The same as before: it locks.
      EXECUTE format('ALTER SEQUENCE %s CACHE %s', q, d.seqcache);
    ELSE
      PERFORM setval(q, last, called);
    END IF;
  END LOOP;
END $advance$;

-- The same for what foreshift.sequences said at the other place.
CREATE OR REPLACE FUNCTION foreshift.advance_all(s text, others jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $all$
DECLARE
  one jsonb;
BEGIN
  FOR one IN SELECT * FROM jsonb_array_elements(others) LOOP
    PERFORM foreshift.advance(s, one->>0, (one->>1)::bigint, (one->>2)::boolean);
  END LOOP;
END $all$;

REVOKE ALL ON FUNCTION foreshift.admit(text, bigint, text), foreshift.keep_rows(), foreshift.publishes(text),
  foreshift.advance(text, text, bigint, boolean), foreshift.advance_all(text, jsonb) FROM PUBLIC;
