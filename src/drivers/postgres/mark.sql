-- What stands in every database that a workload was moved from or to: whose it is. It is no artifact
-- of one migration: it is what refuses a deposed leader, and writes to a copy, for good.
-- One at a time: several migrations may begin together.
SELECT pg_advisory_xact_lock(7166739174);
CREATE SCHEMA IF NOT EXISTS foreshift;
-- Who writes to a table adds to the list of its digest.
GRANT USAGE ON SCHEMA foreshift TO PUBLIC;

CREATE TABLE IF NOT EXISTS foreshift.owner (
  -- The workload where it is simply writable: what every statement that writes asks for, and so the first column.
  open text GENERATED ALWAYS AS (CASE mode WHEN 'writable' THEN workload END) STORED,
  workload text PRIMARY KEY,
  -- Empty = all schemas of the database.
  schema_name text NOT NULL,
  generation bigint NOT NULL,
  epoch bigint NOT NULL,
  mode text NOT NULL CHECK (mode IN ('writable', 'fenced', 'standby')),
  -- When a fence lets go by itself.
  until timestamptz,
  -- The migration whose copy this is, until it is retired; and what it made: 'database', 'schema', 'tables'
  -- in a schema that was there, 'nothing' where an older copy stood.
  made_by text,
  made text NOT NULL DEFAULT 'nothing',
  -- Where the owner is, for who writes here.
  owner_is text
);

-- What the structure of the other side was when this one was made like it: a hash and a name in each line. It goes
-- with the mark.
CREATE TABLE IF NOT EXISTS foreshift.shape (
  workload text PRIMARY KEY REFERENCES foreshift.owner ON DELETE CASCADE,
  objects text NOT NULL
);

-- Which move holds writes here until its destination is opened: what frees them where nobody knows of it any more.
CREATE TABLE IF NOT EXISTS foreshift.held (
  workload text PRIMARY KEY REFERENCES foreshift.owner ON DELETE CASCADE,
  fence text NOT NULL
);

-- Who writes asks as who it is.
GRANT SELECT (open) ON foreshift.owner TO PUBLIC;

-- Whether who was not simply let through may write after all. Isolation levels with a snapshot of their own
-- must lock the row to see it as it is.
CREATE OR REPLACE FUNCTION foreshift.guard_closely(w text, of_schema text, of_table text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $closely$
DECLARE
  mode pg_catalog.text;
  until pg_catalog.timestamptz;
  owner_is pg_catalog.text;
BEGIN
  IF pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.=) 'read committed' THEN
    SELECT o.mode, o.until, o.owner_is INTO mode, until, owner_is FROM foreshift.owner o
      WHERE o.workload OPERATOR(pg_catalog.=) w;
  ELSE
    SELECT o.mode, o.until, o.owner_is INTO mode, until, owner_is FROM foreshift.owner o
      WHERE o.workload OPERATOR(pg_catalog.=) w FOR SHARE;
    -- Its snapshot is older than the mark, and cannot tell what became of it.
    IF NOT FOUND THEN
      RAISE EXCEPTION USING ERRCODE = 'serialization_failure',
        MESSAGE = pg_catalog.format('foreshift: whose %s.%s is changed while this transaction ran', of_schema, of_table),
        HINT = 'Try the transaction again.';
    END IF;
  END IF;
  IF mode OPERATOR(pg_catalog.=) 'standby' OR
     mode OPERATOR(pg_catalog.=) 'fenced' AND pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<=) until THEN
    RAISE EXCEPTION USING ERRCODE = 'read_only_sql_transaction',
      MESSAGE = pg_catalog.format('foreshift: %s.%s is not written to here now', of_schema, of_table),
      HINT = pg_catalog.format('Its owner is %s.', coalesce(owner_is, 'being changed; try again'));
  END IF;
END $closely$;

GRANT EXECUTE ON FUNCTION foreshift.guard_closely(text, text, text) TO PUBLIC;

-- Refuses an older leader, and a place that does not own the workload.
CREATE OR REPLACE FUNCTION foreshift.check_owner(m foreshift.owner, w text, g bigint, e bigint)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $check$
BEGIN
  IF m.workload IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'FS002', MESSAGE = format('%s is not known here; prepare it first', w);
  ELSIF m.epoch > e THEN
    RAISE EXCEPTION USING ERRCODE = 'FS001',
      MESSAGE = format('the leader of epoch e%s was here, ours is e%s: this engine is deposed', m.epoch, e);
  ELSIF m.mode = 'standby' OR m.generation >= g THEN
    RAISE EXCEPTION USING ERRCODE = 'FS002',
      MESSAGE = format('%s is %s here at g%s, so it is not ours to change at g%s', w, m.mode, m.generation, g);
  END IF;
END $check$;

-- Where every sequence of a schema stands, or of all that are moved with the database.
CREATE OR REPLACE FUNCTION foreshift.sequences(s text) RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $sequences$
DECLARE
  r record;
  v record;
  found jsonb := '[]';
BEGIN
  FOR r IN SELECT c.relname, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE c.relkind = 'S' AND (n.nspname = s
             OR s = '' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'foreshift'))
           ORDER BY 2, 1 LOOP
    EXECUTE format('SELECT last_value, is_called FROM %I.%I', r.nspname, r.relname) INTO v;
    found := found || jsonb_build_array(jsonb_build_array(r.relname, v.last_value, v.is_called, r.nspname));
  END LOOP;
  RETURN found;
END $sequences$;

-- Holds writes until u. Sealed, the stream to the destination ends here: what is written to this
-- place later is not sent there, and the barrier carries the generation and where sequences stand.
CREATE OR REPLACE FUNCTION foreshift.hold(
  w text, k bigint, g bigint, e bigint, u timestamptz, sealed boolean, stream text
) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $hold$
DECLARE
  m foreshift.owner;
  t bigint := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(k);
  SELECT * INTO m FROM foreshift.owner o WHERE o.workload = w FOR UPDATE;
  PERFORM foreshift.check_owner(m, w, g, e);
  UPDATE foreshift.owner o SET mode = 'fenced', until = u, epoch = e WHERE o.workload = w;
  IF sealed THEN
    INSERT INTO foreshift.held VALUES (w, stream) ON CONFLICT (workload) DO UPDATE SET fence = EXCLUDED.fence;
    EXECUTE format('ALTER PUBLICATION %I SET (publish = '''')', stream);
    EXECUTE format('UPDATE foreshift.%I SET token = token + 1, sealed = $1, sequences = $2 RETURNING token', stream)
      INTO STRICT t USING g, foreshift.sequences(m.schema_name);
  END IF;
  RETURN t;
END $hold$;

-- Lets writes go on, and the stream with them.
CREATE OR REPLACE FUNCTION foreshift.let_go(w text, e bigint, stream text) RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $let_go$
DECLARE
  m foreshift.owner;
BEGIN
  SELECT * INTO m FROM foreshift.owner o WHERE o.workload = w FOR UPDATE;
  IF m.workload IS NULL OR m.mode = 'standby' THEN
    RETURN coalesce(m.mode, 'unknown');
  ELSIF m.epoch > e THEN
    RAISE EXCEPTION USING ERRCODE = 'FS001',
      MESSAGE = format('the leader of epoch e%s was here, ours is e%s: this engine is deposed', m.epoch, e);
  END IF;
  IF m.mode = 'fenced' AND EXISTS (SELECT 1 FROM pg_publication p WHERE p.pubname = stream) THEN
    EXECUTE format('ALTER PUBLICATION %I SET (publish = %L)', stream, foreshift.publishes(w));
  END IF;
  UPDATE foreshift.owner o SET mode = 'writable', until = NULL, epoch = e WHERE o.workload = w;
  RETURN m.mode;
END $let_go$;

-- Makes this place the owner at generation g: sequences as the barrier brought them, the stream back
-- begins in the same transaction in which the first write is allowed. A source that was not sealed for
-- g is refused, unless that is asked for.
CREATE OR REPLACE FUNCTION foreshift.open(
  w text, g bigint, e bigint, stream text, back text, unsealed boolean
) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $open$
DECLARE
  m foreshift.owner;
  b record;
  s jsonb;
BEGIN
  SELECT * INTO m FROM foreshift.owner o WHERE o.workload = w FOR UPDATE;
  IF m.mode = 'writable' AND m.generation >= g THEN
    RETURN 'already';
  ELSIF m.workload IS NULL OR m.generation >= g THEN
    RAISE EXCEPTION USING ERRCODE = 'FS002',
      MESSAGE = format('%s cannot be opened at g%s here: it is %s at g%s', w, g, m.mode, m.generation);
  ELSIF m.epoch > e THEN
    RAISE EXCEPTION USING ERRCODE = 'FS001',
      MESSAGE = format('the leader of epoch e%s was here, ours is e%s: this engine is deposed', m.epoch, e);
  END IF;
  EXECUTE format('SELECT sealed, sequences FROM foreshift.%I', stream) INTO b;
  IF b.sealed IS DISTINCT FROM g AND NOT unsealed THEN
    RETURN 'unsealed';
  END IF;
  IF b.sealed = g AND EXISTS (SELECT 1 FROM foreshift.tenant t WHERE t.workload = w) THEN
    PERFORM foreshift.advance_all(m.schema_name, b.sequences);
  ELSIF b.sealed = g THEN
    FOR s IN SELECT * FROM jsonb_array_elements(b.sequences) LOOP
      -- One that was made while writes were held cannot keep everybody from writing.
      CONTINUE WHEN to_regclass(format('%I.%I', s->>3, s->>0)) IS NULL;
      PERFORM setval(format('%I.%I', s->>3, s->>0)::regclass, (s->>1)::bigint, (s->>2)::boolean);
    END LOOP;
  END IF;
  IF EXISTS (SELECT 1 FROM pg_publication p WHERE p.pubname = back) THEN
    EXECUTE format('ALTER PUBLICATION %I SET (publish = %L)', back, foreshift.publishes(w));
  END IF;
  UPDATE foreshift.owner o SET mode = 'writable', generation = g, epoch = e, until = NULL, owner_is = NULL
    WHERE o.workload = w;
  RETURN CASE WHEN b.sealed = g THEN 'sealed' ELSE 'opened unsealed' END;
END $open$;

-- A database that is a copy says so of itself, from the moment at which its mark does until it is opened: that
-- is seen from other databases, and so under the lock of who takes its name away.
CREATE OR REPLACE FUNCTION foreshift.say_copy() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $say$
BEGIN
  IF TG_OP = 'UPDATE' AND (OLD.mode = 'standby') = (NEW.mode = 'standby') THEN
    RETURN NULL;
  ELSIF NEW.mode = 'standby' THEN
    EXECUTE format('ALTER DATABASE %I SET foreshift.copy TO %L', current_database(), NEW.workload);
  ELSE
    EXECUTE format('ALTER DATABASE %I RESET foreshift.copy', current_database());
  END IF;
  RETURN NULL;
END $say$;
DO $say$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'foreshift.owner'::regclass AND tgname = 'say_copy') THEN
    CREATE TRIGGER say_copy AFTER INSERT OR UPDATE OF mode ON foreshift.owner FOR EACH ROW
      WHEN (NEW.schema_name = '') EXECUTE FUNCTION foreshift.say_copy();
    ALTER TABLE foreshift.owner ENABLE ALWAYS TRIGGER say_copy;
  END IF;
END $say$;

REVOKE ALL ON FUNCTION foreshift.say_copy(), foreshift.check_owner(foreshift.owner, text, bigint, bigint),
  foreshift.sequences(text), foreshift.hold(text, bigint, bigint, bigint, timestamptz, boolean, text),
  foreshift.let_go(text, bigint, text), foreshift.open(text, bigint, bigint, text, text, boolean) FROM PUBLIC;
