-- sums: create the sums that sql/queries/sums reads, the triggers that keep them right, and the function that refreshes
-- them.
--
-- Run it as the owner of the tables; run it again after each upgrade of the service:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f sums.sql
-- Then schedule sums_refresh.sql every minute, or with pg_cron, also as the owner of the tables
--   SELECT cron.schedule('usage_sums', '* * * * *', $$SELECT usage_sums.refresh()$$);
-- With SPEND_SOURCE=auto, its default, the service reads the sums as soon as they exist and its role may read them.
-- remove.sql takes all of it away again.
--
-- What is kept. Other roles may create functions in public, but not in this schema.
--   usage_sums.days       one row per account and UTC day with an event
--   usage_sums.windows    the windows for which sums of accounts are kept: those of the service's periods, of yesterday,
--                         today and tomorrow; this month and the last twelve; and those that changes subtract
--   usage_sums.accounts   one row per window and account with an event in it
--   usage_sums.keys       one row per UTC day, model, provider, source and agent type, of all accounts
--   usage_sums.watermark  one row: the instant up to which events are summed
--   usage_sums.ledger     changes of events that were older than five minutes
--
-- Why it is right
--   * Triggers write each insertion, change and deletion of an event dated more than five minutes ago into the ledger, in
--     the transaction of the change. A row of the ledger is a copy of the event, with the sign 1 or -1. So at any moment
--         events before the watermark = sums + ledger rows dated before the watermark
--     and a query adds these rows, and the events since the watermark.
--   * A refresh adds the ledger to the sums, adds the events up to a later watermark, and deletes the ledger, in one
--     statement and so in one snapshot.
--   * The watermark moves no further than to the instant that the refresh before has planned: ten minutes before now(), or
--     before the start of the oldest open transaction. Each statement that writes events compares its now() with the
--     plan. If the clock was set back so far that an event of it could miss the ledger and be dated before the watermark,
--     it writes a ledger row without an event, and the sums are not used until a refresh has made them again.
--   * What no trigger sees changes the text that usage_sums.token() makes of the files of the tables and of rows of the
--     catalogs. If it is not the token of the last refresh, the sums are not used until a refresh has made them again.
--     usage_sums.unusable() tells why.
--   Changes of rows in these tables are not noticed: only usage_sums.refresh() may write them.
--
-- What it costs: see "The owner's side" in sql/README.md.
--   The triggers fail no statement of the owner for a changed table: they name no column but created_at, and do nothing
--   if a table of the sums is absent. created_at cannot be dropped or change its type while they exist.
--   CREATE TRIGGER waits until transactions that write usage_events have ended, and writers wait for it. It gives up after
--   two seconds: run the script again when fewer transactions are open.
--
-- There can be no sums on Citus and in some other cases, which usage_sums.obstacle() lists. The script then stops.
\set ON_ERROR_STOP on

-- Names without a schema are those of PostgreSQL, also where other roles may create objects in schema public.
SET search_path = pg_catalog, pg_temp;
SET client_min_messages = warning;
SET lock_timeout = '2s';

-- Sums of a version before the ledger cannot be taken over. Dropping their foreign keys locks accounts: lock it first, as a
-- deletion of an account does.
SELECT
    'BEGIN' AS statement_1,
    'LOCK TABLE public.accounts' AS statement_2,
    'DROP TABLE IF EXISTS public.usage_sums, public.usage_sums_window, public.usage_sums_watermark' AS statement_3,
    'DROP FUNCTION IF EXISTS public.usage_sums_refresh(date, interval)' AS statement_4,
    'COMMIT' AS statement_5
FROM pg_catalog.pg_class AS former
INNER JOIN pg_catalog.pg_class AS events ON events.oid = 'public.usage_events'::regclass
WHERE former.oid = to_regclass('public.usage_sums') AND former.relowner = events.relowner
\gexec

BEGIN;

-- The triggers read and write the tables of the sums: lock in their order.
LOCK TABLE public.usage_events IN SHARE ROW EXCLUSIVE MODE;

SELECT format('CREATE SCHEMA IF NOT EXISTS usage_sums AUTHORIZATION %s', relowner::regrole)
FROM pg_catalog.pg_class
WHERE oid = 'public.usage_events'::regclass
\gexec

-- The schema and what is in it must belong to the owner of usage_events, to a superuser or to this role. Code of another
-- role would run with the rights of the owner.
\set SHOW_CONTEXT never
SELECT format('DO %L', format('BEGIN RAISE USING MESSAGE = %L; END', finding))
FROM (
    SELECT
        'schema usage_sums' AS name,
        nspowner AS owner
    FROM pg_catalog.pg_namespace
    WHERE nspname = 'usage_sums'
    UNION ALL
    SELECT
        pg_describe_object('pg_class'::regclass, oid, 0) AS name,
        relowner AS owner
    FROM pg_catalog.pg_class
    WHERE relnamespace = 'usage_sums'::regnamespace
    UNION ALL
    SELECT
        pg_describe_object('pg_proc'::regclass, oid, 0) AS name,
        proowner AS owner
    FROM pg_catalog.pg_proc
    WHERE pronamespace = 'usage_sums'::regnamespace
) AS object
INNER JOIN pg_catalog.pg_class AS events ON events.oid = 'public.usage_events'::regclass
INNER JOIN pg_catalog.pg_roles AS owner ON owner.oid = object.owner
CROSS JOIN LATERAL format('stopped: %s belongs to %s', object.name, owner.rolname) AS finding
WHERE owner.oid <> events.relowner
    AND owner.rolname <> current_user
    AND NOT owner.rolsuper
ORDER BY finding DESC
\gexec

CREATE TABLE IF NOT EXISTS usage_sums.days (
    account_id uuid NOT NULL,
    day date NOT NULL,
    event_count integer NOT NULL,
    credits_deducted_cents bigint NOT NULL,
    PRIMARY KEY (account_id, day)
);

CREATE TABLE IF NOT EXISTS usage_sums.windows (
    window_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    account_count bigint,
    UNIQUE (since, until)
);

CREATE TABLE IF NOT EXISTS usage_sums.accounts (
    account_id uuid NOT NULL,
    window_id integer NOT NULL,
    event_count integer NOT NULL,
    credits_deducted_cents bigint NOT NULL,
    PRIMARY KEY (window_id, account_id)
);

CREATE TABLE IF NOT EXISTS usage_sums.keys (
    day date NOT NULL,
    model_id text COLLATE "C",
    provider text COLLATE "C",
    source text COLLATE "C",
    agent_type text COLLATE "C",
    credits_deducted_cents numeric NOT NULL,
    event_count bigint NOT NULL,
    input_tokens numeric NOT NULL,
    cached_input_tokens numeric NOT NULL,
    output_tokens numeric NOT NULL,
    tool_call_count numeric NOT NULL
);

-- event: a copy of what the sums need of an event, or null if the clock was set back.
CREATE TABLE IF NOT EXISTS usage_sums.ledger (
    sign smallint,
    event jsonb
);

-- planned: how far the next refresh may move instant. token: of the last refresh. written_by: the transaction that wrote
-- the row. A row that was restored from a dump has another.
CREATE TABLE IF NOT EXISTS usage_sums.watermark (
    instant timestamptz NOT NULL CHECK (instant < 'infinity'),
    planned timestamptz NOT NULL,
    token text,
    written_by xid,
    is_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_only_row)
);

-- For windows over all accounts. Rows are inserted in the order of the days, so the rows of a day are adjacent and
-- (day) is enough.
CREATE INDEX IF NOT EXISTS days_day_idx ON usage_sums.days (day);
CREATE INDEX IF NOT EXISTS keys_day_idx ON usage_sums.keys (day);
-- The order of a page.
CREATE INDEX IF NOT EXISTS accounts_rank_idx
ON usage_sums.accounts (window_id, credits_deducted_cents DESC, account_id);

-- If the statistics list all windows, the planner expects no rows for a window that was made since. With this target they
-- list one at most.
ALTER TABLE usage_sums.accounts ALTER window_id SET STATISTICS 1;

-- Each refresh updates the rows of today and of the windows, and empties the ledger. Vacuum them often, so that the
-- tables stay small.
ALTER TABLE usage_sums.days SET (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE usage_sums.accounts SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE usage_sums.keys SET (autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE usage_sums.ledger SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Before the first refresh nothing is summed, and nothing is planned.
INSERT INTO usage_sums.watermark (instant, planned) VALUES ('-infinity', '-infinity') ON CONFLICT DO NOTHING;

ALTER TABLE usage_sums.days ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_sums.accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_sums.keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_sums.ledger ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_sums.watermark ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_sums.windows ENABLE ROW LEVEL SECURITY;

-- The ledger in columns.
CREATE OR REPLACE VIEW usage_sums.late AS
SELECT
    sign,
    (event ->> 'account_id')::uuid AS account_id,
    (event ->> 'created_at')::timestamptz AS created_at,
    (event ->> 'model_id') COLLATE "C" AS model_id,
    (event ->> 'provider') COLLATE "C" AS provider,
    (event ->> 'source') COLLATE "C" AS source,
    (event ->> 'agent_type') COLLATE "C" AS agent_type,
    (event ->> 'credits')::bigint AS credits_deducted_cents,
    (event ->> 'input_tokens')::bigint AS input_tokens,
    (event ->> 'cached_input_tokens')::bigint AS cached_input_tokens,
    (event ->> 'output_tokens')::bigint AS output_tokens,
    (event ->> 'tool_call_count')::bigint AS tool_call_count
FROM usage_sums.ledger;

-- Return the names of the columns of usage_events that the sums depend on. Newer databases call the column
-- credits_deducted_cents credits_deducted. While both exist, the older one counts.
CREATE OR REPLACE FUNCTION usage_sums.columns() RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ARRAY[
        'account_id', 'created_at', 'model_id', 'provider', 'source', 'agent_type', 'input_tokens',
        'cached_input_tokens', 'output_tokens', 'tool_call_count',
        (
            SELECT max(attname::text COLLATE "C")
            FROM pg_attribute
            WHERE attrelid = to_regclass('public.usage_events')
                AND attname IN ('credits_deducted_cents', 'credits_deducted')
        )
    ]
$$;

-- Return what stands against sums of usage_events, or null.
CREATE OR REPLACE FUNCTION usage_sums.obstacle() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN to_regclass('pg_dist_partition') IS NOT NULL THEN 'Citus is installed'
        WHEN events.relkind IS DISTINCT FROM 'r' THEN 'usage_events is partitioned, or not a table'
        WHEN EXISTS (SELECT FROM pg_inherits WHERE events.oid IN (inhparent, inhrelid))
            THEN 'usage_events has child tables, or is one'
        WHEN EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = events.oid)
            THEN 'usage_events is a subscriber of logical replication'
        WHEN events.relpersistence <> 'p' THEN 'usage_events is unlogged'
        WHEN (
            SELECT count(*)
            FROM pg_class
            WHERE oid IN (
                    to_regclass('usage_sums.days'), to_regclass('usage_sums.accounts'),
                    to_regclass('usage_sums.keys'), to_regclass('usage_sums.ledger'),
                    to_regclass('usage_sums.watermark'), to_regclass('usage_sums.windows')
                )
                AND relkind = 'r'
                AND relpersistence = 'p'
        ) < 6 THEN 'a table of the sums is absent or unlogged'
        WHEN EXISTS (SELECT FROM pg_publication WHERE puballtables)
            OR EXISTS (SELECT FROM pg_publication_namespace WHERE pnnspid = to_regnamespace('usage_sums'))
            THEN 'a publication FOR ALL TABLES would publish the sums'
        WHEN EXISTS (
            SELECT
            FROM pg_attribute
            WHERE attrelid = events.oid
                AND attname = ANY(usage_sums.columns())
                AND (attgenerated = 'v' OR attname = 'account_id' AND NOT attnotnull)
        )
            OR EXISTS (
                SELECT FROM pg_constraint WHERE conrelid = events.oid AND contype = 'n' AND NOT convalidated
            ) THEN 'a column of usage_events is virtual, or account_id may be null'
        -- to_jsonb() calls casts to JSON, which the owner of a type may create, with the rights of the owner of the events
        WHEN EXISTS (
            SELECT
            FROM pg_attribute
            INNER JOIN pg_type ON pg_type.oid = pg_attribute.atttypid
            INNER JOIN pg_roles ON pg_roles.oid = pg_type.typowner
            WHERE pg_attribute.attrelid = events.oid
                AND pg_attribute.attnum > 0
                AND NOT pg_roles.rolsuper
                AND pg_type.typowner <> events.relowner
        ) THEN 'a column of usage_events has a type of another role'
    END
    FROM (SELECT to_regclass('public.usage_events') AS oid) AS wanted
    LEFT JOIN pg_class AS events ON events.oid = wanted.oid
$$;

-- Return a text that changes with all that can change the events or the sums without a trigger: the files of the tables,
-- and the catalog rows of schemas, tables, columns, triggers and functions. A change that is undone gives them a new xmin
-- too. Null if there is an obstacle, or a trigger is absent or not ENABLE ALWAYS. A snapshot does not cover the files of
-- tables, so both are named: of the snapshot, and of now.
CREATE OR REPLACE FUNCTION usage_sums.token() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(
        ' ',
        ARRAY(
            SELECT concat_ws('/', oid, xmin)
            FROM pg_namespace
            WHERE nspname IN ('public', 'usage_sums')
            ORDER BY nspname
        ),
        ARRAY(
            SELECT concat_ws('/', relname, oid, xmin, relfilenode, pg_relation_filenode(oid))
            FROM pg_class
            WHERE oid = 'public.usage_events'::regclass
                OR (relnamespace = 'usage_sums'::regnamespace AND relkind IN ('r', 'v'))
            ORDER BY relname
        ),
        ARRAY(
            SELECT concat_ws('/', attname, attnum, atttypid, xmin)
            FROM pg_attribute
            WHERE attrelid = 'public.usage_events'::regclass AND attname = ANY(usage_sums.columns())
            ORDER BY attnum
        ),
        ARRAY(
            SELECT concat_ws('/', tgname, oid, xmin)
            FROM pg_trigger
            WHERE tgrelid = 'public.usage_events'::regclass AND starts_with(tgname, 'usage_sums_')
            ORDER BY tgname
        ),
        ARRAY(
            SELECT concat_ws('/', proname, oid, xmin)
            FROM pg_proc
            WHERE pronamespace = 'usage_sums'::regnamespace
            ORDER BY proname
        )
    )
    WHERE usage_sums.obstacle() IS NULL
        AND (
            SELECT count(*)
            FROM pg_trigger
            WHERE tgrelid = 'public.usage_events'::regclass
                AND (tgname, tgfoid::regproc::text) IN (
                    ('usage_sums_clock', 'usage_sums.note_clock'), ('usage_sums_delete', 'usage_sums.note_change'),
                    ('usage_sums_insert', 'usage_sums.note_change'), ('usage_sums_update', 'usage_sums.note_change')
                )
                AND tgenabled = 'A'
        ) = 4
$$;

-- Return why the sums are not used now, or null.
CREATE OR REPLACE FUNCTION usage_sums.unusable() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN present.token IS NULL
            THEN coalesce(usage_sums.obstacle(), 'a trigger is absent, or not ENABLE ALWAYS: run sums.sql again')
        WHEN watermark.written_by IS NULL THEN 'nothing is summed yet'
        WHEN watermark.written_by <> watermark.xmin THEN 'usage_sums.watermark was not written by a refresh'
        WHEN watermark.token IS DISTINCT FROM present.token
            THEN 'a table, a column, a trigger or a function was changed since the refresh'
        WHEN ledger.length > 200000 THEN 'the ledger has more than 200,000 rows'
        WHEN ledger.length > ledger.events THEN 'the clock was set back, or a column had another name'
        WHEN watermark.instant = '-infinity' THEN 'nothing is summed yet'
    END
    FROM (SELECT usage_sums.token() AS token) AS present
    CROSS JOIN (
        SELECT
            count(*) AS length,
            count(event) AS events
        FROM (SELECT event FROM usage_sums.ledger LIMIT 200001) AS bounded
    ) AS ledger
    LEFT JOIN (SELECT xmin, instant, token, written_by FROM usage_sums.watermark) AS watermark ON true
$$;

-- Return how a window is put together.
--   window_id, account_count   read the rows of usage_sums.accounts of this window; its number of accounts
--   day_until                  otherwise, read the days from asked_since on before this one
--   stop                       these cover the events before this instant: add the rows of usage_sums.late dated before
--   rest_from, rest_until      then add the events from and until here, or subtract them, as rest_sign says
-- source is windows, for a kept window or days; days; or events. A kept window must begin with the asked one and end within
-- a day of it. With events, without usable sums, or if less is to be read so, all is read from the events: stop is
-- asked_since.
CREATE OR REPLACE FUNCTION usage_sums.cover(
    asked_since timestamptz,
    asked_until timestamptz,
    source text,
    OUT window_id integer,
    OUT account_count bigint,
    OUT day_until date,
    OUT stop timestamptz,
    OUT rest_from timestamptz,
    OUT rest_until timestamptz,
    OUT rest_sign integer
)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    WITH asked AS (
        SELECT
            asked_since AS since,
            greatest(asked_until, asked_since) AS until
    ),

    watermark AS (
        SELECT usage_sums.watermark.instant
        FROM usage_sums.watermark
        WHERE usage_sums.unusable() IS NULL
    ),

    candidate AS (
        SELECT
            kept.window_id,
            kept.account_count,
            NULL::date AS day_until,
            least(kept.until, watermark.instant) AS stop,
            1 AS rank
        FROM watermark
        CROSS JOIN asked
        INNER JOIN usage_sums.windows AS kept ON kept.since = asked.since
        WHERE source = 'windows'
            AND asked.until > least(kept.until, watermark.instant) - interval '1 day'
            AND (kept.until = 'infinity' OR asked.until < kept.until + interval '1 day')
        UNION ALL
        -- the days up to the watermark, or up to the midnight before or after the end of the window
        SELECT
            NULL AS window_id,
            NULL AS account_count,
            edge.day_until,
            edge.stop,
            2 AS rank
        FROM watermark
        CROSS JOIN asked
        CROSS JOIN LATERAL (
            SELECT
                (asked.until AT TIME ZONE 'UTC')::date + more.days AS day_until,
                ((asked.until AT TIME ZONE 'UTC')::date + more.days)::timestamp AT TIME ZONE 'UTC' AS stop
            FROM (VALUES (0), (1)) AS more (days)
            UNION ALL
            SELECT
                ((watermark.instant - interval '1 microsecond') AT TIME ZONE 'UTC')::date + 1 AS day_until,
                watermark.instant AS stop
        ) AS edge
        -- the days can only be read for a window that begins with one
        WHERE source IN ('windows', 'days')
            AND (asked.since AT TIME ZONE 'UTC')::date = asked.since AT TIME ZONE 'UTC'
            AND edge.stop <= watermark.instant
        UNION ALL
        SELECT
            NULL AS window_id,
            NULL AS account_count,
            NULL AS day_until,
            asked.since AS stop,
            3 AS rank
        FROM asked
    )

    SELECT
        covered.window_id,
        covered.account_count,
        covered.day_until,
        covered.stop,
        least(covered.stop, covered.until) AS rest_from,
        greatest(covered.stop, covered.until) AS rest_until,
        CASE WHEN covered.until < covered.stop THEN -1 ELSE 1 END AS rest_sign
    FROM (
        SELECT
            candidate.window_id,
            candidate.account_count,
            candidate.day_until,
            greatest(candidate.stop, asked.since) AS stop,
            candidate.rank,
            asked.since,
            asked.until
        FROM candidate
        CROSS JOIN asked
    ) AS covered
    -- not if more events would be subtracted than the window contains
    WHERE covered.rank = 3
        OR covered.stop <= covered.until
        OR extract(EPOCH FROM covered.stop) - extract(EPOCH FROM covered.until)
        < extract(EPOCH FROM covered.until) - extract(EPOCH FROM covered.since)
    ORDER BY
        covered.rank ASC,
        abs(extract(EPOCH FROM covered.until) - extract(EPOCH FROM covered.stop)) ASC,
        covered.stop DESC
    LIMIT 1
$$;

-- Note that the clock was set back. An event that is written with this now() could miss the ledger, though it is dated
-- before the watermark.
CREATE OR REPLACE FUNCTION usage_sums.note_clock() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF to_regclass('usage_sums.watermark') IS NOT NULL THEN
        IF now() - interval '5 minutes' < (SELECT planned FROM usage_sums.watermark)
            AND to_regclass('usage_sums.ledger') IS NOT NULL
        THEN
            INSERT INTO usage_sums.ledger (event) VALUES (NULL);
        END IF;
    END IF;
    RETURN NULL;
END
$$;

-- Return what the sums need of an event, or null if a column is absent, or has another name now.
CREATE OR REPLACE FUNCTION usage_sums.copy(event jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'account_id', event -> 'account_id',
        'created_at', event -> 'created_at',
        'model_id', event -> 'model_id',
        'provider', event -> 'provider',
        'source', event -> 'source',
        'agent_type', event -> 'agent_type',
        'credits', coalesce(event -> 'credits_deducted_cents', event -> 'credits_deducted'),
        'input_tokens', event -> 'input_tokens',
        'cached_input_tokens', event -> 'cached_input_tokens',
        'output_tokens', event -> 'output_tokens',
        'tool_call_count', event -> 'tool_call_count'
    )
    WHERE event ?& '{account_id, created_at, model_id, provider, source, agent_type, input_tokens,
            cached_input_tokens, output_tokens, tool_call_count}'
        AND event ?| '{credits_deducted_cents, credits_deducted}'
        AND event ->> 'account_id' IS NOT NULL
$$;

-- Write an old event that was inserted, changed or deleted to the ledger. The columns are read from JSON, so that no
-- change of usage_events makes this fail. The inner block writes nothing, so it takes no transaction id.
CREATE OR REPLACE FUNCTION usage_sums.note_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- JSON has instants with the offset of the session, which may be larger than an input may have.
SET TimeZone = 'UTC'
AS $$
DECLARE
    removed jsonb;
    added jsonb;
BEGIN
    BEGIN
        removed := usage_sums.copy(to_jsonb(old));
        added := usage_sums.copy(to_jsonb(new));
    EXCEPTION WHEN OTHERS THEN
        -- Another column has a value that jsonb does not take, such as \u0000. The rows of the ledger have no event.
        removed := NULL;
        added := NULL;
    END;
    IF to_regclass('usage_sums.ledger') IS NULL OR TG_OP = 'UPDATE' AND removed = added THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO usage_sums.ledger (sign, event) VALUES (-1, removed);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO usage_sums.ledger (sign, event) VALUES (1, added);
    END IF;
    RETURN NULL;
END
$$;

-- Add the ledger, and the events from the watermark to the planned instant, to the sums; plan the next instant. If the sums
-- are not usable, make them again. Return the watermark, why the sums were made again, and what holds the watermark back.
--
-- The plan is ten minutes before now(), or before the start of the oldest transaction in this database: created_at defaults
-- to the start of the transaction. An event that is dated up to five minutes before now() is not in the ledger; the other
-- five are for clocks that differ. The start of a prepared transaction, or of one in a session with track_activities off,
-- is unknown: while there is one, watermark and plan stay.
CREATE OR REPLACE FUNCTION usage_sums.refresh(
    OUT watermark timestamptz, OUT made_again text, OUT held_back_by text
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- Raise an error if row-level security would hide events.
SET row_security = off
-- Days are UTC days.
SET TimeZone = 'UTC'
AS $$
DECLARE
    -- of the moment before anything is read: a later change makes the sums unusable
    current_token text := usage_sums.token();
    today date := (now() AT TIME ZONE 'UTC')::date;
    this_month date := date_trunc('month', today::timestamp);
    old record;
    oldest_start timestamptz;
    is_unknown boolean;
    reduced uuid[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'usage_sums.refresh must run READ COMMITTED'
            USING HINT = 'It lists the open transactions, and must then see everything that was committed before.';
    END IF;
    IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        RAISE EXCEPTION 'usage_sums.refresh must be the first in its transaction that writes'
            USING HINT = 'Its plan counts when it is committed, and a TRUNCATE in the same transaction would not be seen.';
    END IF;
    IF NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') THEN
        RAISE EXCEPTION 'usage_sums.refresh must see when transactions of other roles began'
            USING HINT = format('GRANT pg_read_all_stats TO %I;', current_user);
    END IF;
    IF current_token IS NULL THEN
        RAISE EXCEPTION 'the sums cannot be used: %', usage_sums.unusable();
    END IF;
    INSERT INTO usage_sums.watermark (instant, planned) VALUES ('-infinity', '-infinity') ON CONFLICT DO NOTHING;

    -- A concurrent refresh waits here, and then finds little to do.
    SELECT instant, planned INTO STRICT old FROM usage_sums.watermark FOR UPDATE;
    made_again := usage_sums.unusable();

    -- An earlier statement of this transaction may have read pg_stat_activity.
    PERFORM pg_stat_clear_snapshot();
    -- Read pg_stat_activity before pg_prepared_xacts, so that a transaction that is being prepared is in one of them. A
    -- transaction that is in neither has ended, and the statements below see it, or it begins later and compares its now()
    -- with the plan. If a message consists of several transactions, each starts when the message arrived: between two of
    -- them use query_start. A walsender that streams changes only reads.
    SELECT
        min(coalesce(xact_start, query_start)),
        bool_or(
            state = 'disabled'
            OR xact_start IS NULL AND (state <> 'active' OR coalesce(backend_xid, backend_xmin) IS NOT NULL)
        )
    INTO oldest_start, is_unknown
    FROM pg_catalog.pg_stat_activity
    WHERE datname = current_database()
        AND state IS DISTINCT FROM 'idle'
        AND backend_type <> 'autovacuum worker'
        AND NOT (backend_type = 'walsender' AND query ^@ 'START_REPLICATION');
    is_unknown := is_unknown OR EXISTS (
        SELECT FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()
    );
    oldest_start := least(oldest_start, now());
    IF is_unknown THEN
        held_back_by := 'a prepared transaction, or a session with track_activities off';
    ELSIF oldest_start < now() - interval '5 minutes' THEN
        held_back_by := format('a transaction that began %s ago', now() - oldest_start);
    END IF;

    IF made_again IS NOT NULL THEN
        old.instant := '-infinity';
        DELETE FROM usage_sums.days;
        DELETE FROM usage_sums.accounts;
        DELETE FROM usage_sums.keys;
        DELETE FROM usage_sums.windows;
    END IF;
    watermark := CASE
        WHEN is_unknown THEN old.instant
        ELSE greatest(old.instant, least(old.planned, oldest_start - interval '10 minutes'))
    END;

    BEGIN
        -- The events and the ledger are read and the ledger is deleted in one statement, so in one snapshot. A later change
        -- of an event is a later row of the ledger.
        -- The last of columns() is the column of credits.
        EXECUTE format($statement$
            WITH event AS NOT MATERIALIZED (
                SELECT
                    1 AS sign,
                    account_id,
                    created_at::date AS day,
                    model_id::text COLLATE "C" AS model_id,
                    provider::text COLLATE "C" AS provider,
                    source::text COLLATE "C" AS source,
                    agent_type::text COLLATE "C" AS agent_type,
                    %1$I::bigint AS credits_deducted_cents,
                    input_tokens::bigint AS input_tokens,
                    cached_input_tokens::bigint AS cached_input_tokens,
                    output_tokens::bigint AS output_tokens,
                    tool_call_count::bigint AS tool_call_count
                FROM public.usage_events
                WHERE created_at >= $1 AND created_at < $2
                UNION ALL
                SELECT
                    sign, account_id, created_at::date, model_id, provider, source, agent_type, credits_deducted_cents,
                    input_tokens, cached_input_tokens, output_tokens, tool_call_count
                FROM usage_sums.late
                -- the ledger of sums that are made again may have rows without an event
                WHERE $1 > '-infinity' AND created_at < $1
            ),

            noted AS (
                DELETE FROM usage_sums.ledger
            ),

            spend AS MATERIALIZED (
                SELECT
                    account_id,
                    day,
                    coalesce(sum(credits_deducted_cents) FILTER (WHERE sign > 0), 0)
                        - coalesce(sum(credits_deducted_cents) FILTER (WHERE sign < 0), 0) AS credits_deducted_cents,
                    sum(sign) AS event_count
                FROM event
                GROUP BY account_id, day
            ),

            days AS (
                INSERT INTO usage_sums.days AS total (account_id, day, credits_deducted_cents, event_count)
                SELECT account_id, day, credits_deducted_cents, event_count
                FROM spend
                ORDER BY day, account_id
                ON CONFLICT (account_id, day) DO UPDATE
                SET credits_deducted_cents = total.credits_deducted_cents + excluded.credits_deducted_cents,
                    event_count = total.event_count + excluded.event_count
            ),

            change AS MATERIALIZED (
                SELECT
                    kept.window_id,
                    spend.account_id,
                    sum(spend.credits_deducted_cents) AS credits_deducted_cents,
                    sum(spend.event_count) AS event_count
                FROM spend
                INNER JOIN usage_sums.windows AS kept
                    ON kept.since <= spend.day::timestamptz AND kept.until > spend.day::timestamptz
                GROUP BY kept.window_id, spend.account_id
            ),

            windows AS (
                UPDATE usage_sums.windows AS kept
                SET account_count = kept.account_count + counted.difference
                FROM (
                    SELECT
                        change.window_id,
                        sum(
                            (coalesce(before.event_count, 0) + change.event_count > 0)::integer
                            - (before.account_id IS NOT NULL)::integer
                        ) AS difference
                    FROM change
                    LEFT JOIN usage_sums.accounts AS before USING (window_id, account_id)
                    GROUP BY change.window_id
                ) AS counted
                WHERE counted.window_id = kept.window_id AND counted.difference <> 0
            ),

            accounts AS (
                INSERT INTO usage_sums.accounts AS total
                    (window_id, account_id, credits_deducted_cents, event_count)
                SELECT window_id, account_id, credits_deducted_cents, event_count
                FROM change
                ORDER BY window_id, account_id
                ON CONFLICT (window_id, account_id) DO UPDATE
                SET credits_deducted_cents = total.credits_deducted_cents + excluded.credits_deducted_cents,
                    event_count = total.event_count + excluded.event_count
            ),

            replaced AS (
                DELETE FROM usage_sums.keys
                WHERE day = ANY(ARRAY(SELECT DISTINCT spend.day FROM spend))
                RETURNING usage_sums.keys.*
            ),

            keys AS (
                INSERT INTO usage_sums.keys
                SELECT
                    day, model_id, provider, source, agent_type, sum(credits_deducted_cents), sum(event_count),
                    sum(input_tokens), sum(cached_input_tokens), sum(output_tokens), sum(tool_call_count)
                FROM (
                    SELECT
                        day, model_id, provider, source, agent_type, credits_deducted_cents, event_count,
                        input_tokens, cached_input_tokens, output_tokens, tool_call_count
                    FROM replaced
                    UNION ALL
                    SELECT
                        day, model_id, provider, source, agent_type,
                        sign * coalesce(sum(credits_deducted_cents), 0),
                        sign * count(*),
                        sign * coalesce(sum(input_tokens), 0),
                        sign * coalesce(sum(cached_input_tokens), 0),
                        sign * coalesce(sum(output_tokens), 0),
                        sign * coalesce(sum(tool_call_count), 0)
                    FROM event
                    GROUP BY sign, day, model_id, provider, source, agent_type
                ) AS part
                GROUP BY day, model_id, provider, source, agent_type
                HAVING sum(event_count) > 0
            )

            SELECT ARRAY(SELECT DISTINCT account_id FROM event WHERE sign < 0)
        $statement$, (usage_sums.columns())[11])
        INTO reduced
        USING old.instant, watermark;

        -- Only a refresh writes the tables below, so these statements need no common snapshot.
        DELETE FROM usage_sums.days WHERE account_id = ANY(reduced) AND event_count = 0;
        DELETE FROM usage_sums.accounts
        WHERE window_id IN (SELECT kept.window_id FROM usage_sums.windows AS kept)
            AND account_id = ANY(reduced)
            AND event_count = 0;

        -- Exchange the windows that are kept: once a day.
        WITH wanted AS (
            SELECT '-infinity'::timestamptz AS since, 'infinity'::timestamptz AS until
            UNION
            SELECT edge.since, 'infinity'
            FROM generate_series(today - 1, today + 1, interval '1 day') AS near (day)
            CROSS JOIN LATERAL (
                VALUES (near.day), (near.day - interval '6 days'), (near.day - interval '29 days'), (date_trunc('month', near.day))
            ) AS edge (since)
            UNION
            SELECT month.since, month.since + interval '1 month'
            FROM generate_series(this_month - interval '12 months', this_month - interval '1 month', interval '1 month')
                AS month (since)
            UNION
            SELECT edge.since, edge.until
            FROM generate_series(today, today + 1, interval '1 day') AS near (day)
            CROSS JOIN LATERAL (
                VALUES
                    (near.day - interval '1 day', near.day),
                    (near.day - interval '13 days', near.day - interval '7 days'),
                    (near.day - interval '13 days', near.day - interval '6 days'),
                    (near.day - interval '59 days', near.day - interval '30 days'),
                    (near.day - interval '59 days', near.day - interval '29 days')
            ) AS edge (since, until)
        ),

        unwanted AS (
            DELETE FROM usage_sums.windows AS kept
            WHERE NOT EXISTS (SELECT FROM wanted WHERE wanted.since = kept.since AND wanted.until = kept.until)
            RETURNING kept.window_id
        ),

        emptied AS (
            DELETE FROM usage_sums.accounts WHERE window_id IN (SELECT unwanted.window_id FROM unwanted)
        )

        INSERT INTO usage_sums.windows (since, until)
        SELECT wanted.since, wanted.until
        FROM wanted
        WHERE NOT EXISTS (
            SELECT FROM usage_sums.windows AS kept WHERE kept.since = wanted.since AND kept.until = wanted.until
        );

        INSERT INTO usage_sums.accounts (window_id, account_id, credits_deducted_cents, event_count)
        SELECT kept.window_id, days.account_id, sum(days.credits_deducted_cents), sum(days.event_count)
        FROM usage_sums.windows AS kept
        INNER JOIN usage_sums.days AS days ON days.day >= kept.since::date AND days.day < kept.until::date
        WHERE kept.account_count IS NULL
        GROUP BY kept.window_id, days.account_id
        ORDER BY kept.window_id, days.account_id;

        UPDATE usage_sums.windows AS kept
        SET account_count = (
            SELECT count(*) FROM usage_sums.accounts AS account WHERE account.window_id = kept.window_id
        )
        WHERE kept.account_count IS NULL;
    EXCEPTION WHEN numeric_value_out_of_range THEN
        -- The sums are not used. The next refresh tries again.
        held_back_by := 'a sum of an account exceeds bigint, or a number of events integer';
        watermark := '-infinity';
    END;

    UPDATE usage_sums.watermark AS mark
    SET instant = watermark,
        planned = greatest(watermark, CASE WHEN is_unknown THEN old.planned ELSE oldest_start - interval '10 minutes' END),
        token = current_token;
    -- A subtransaction of the caller has an id of its own.
    UPDATE usage_sums.watermark SET written_by = xmin;
    IF made_again IS NOT NULL AND watermark > '-infinity' THEN
        ANALYZE usage_sums.days, usage_sums.accounts, usage_sums.keys, usage_sums.windows;
    END IF;
END
$$;

-- Stop if the sums could not be used.
SELECT format('DO %L', format('BEGIN RAISE USING MESSAGE = %L; END', 'stopped: ' || usage_sums.obstacle()))
WHERE usage_sums.obstacle() IS NOT NULL
\gexec

-- A table that had the name of usage_events before must not write the ledger of this one.
SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass)
FROM pg_catalog.pg_trigger
WHERE tgfoid IN ('usage_sums.note_clock'::regproc, 'usage_sums.note_change'::regproc)
    AND tgrelid <> 'public.usage_events'::regclass
\gexec

CREATE OR REPLACE TRIGGER usage_sums_clock
BEFORE INSERT OR UPDATE OR DELETE ON public.usage_events
FOR EACH STATEMENT EXECUTE FUNCTION usage_sums.note_clock();

CREATE OR REPLACE TRIGGER usage_sums_insert
AFTER INSERT ON public.usage_events
FOR EACH ROW WHEN (new.created_at < now() - interval '5 minutes')
EXECUTE FUNCTION usage_sums.note_change();

CREATE OR REPLACE TRIGGER usage_sums_update
AFTER UPDATE ON public.usage_events
FOR EACH ROW WHEN (least(old.created_at, new.created_at) < now() - interval '5 minutes')
EXECUTE FUNCTION usage_sums.note_change();

CREATE OR REPLACE TRIGGER usage_sums_delete
AFTER DELETE ON public.usage_events
FOR EACH ROW WHEN (old.created_at < now() - interval '5 minutes')
EXECUTE FUNCTION usage_sums.note_change();

-- also for changes that arrive with session_replication_role = replica
ALTER TABLE public.usage_events ENABLE ALWAYS TRIGGER usage_sums_clock;
ALTER TABLE public.usage_events ENABLE ALWAYS TRIGGER usage_sums_insert;
ALTER TABLE public.usage_events ENABLE ALWAYS TRIGGER usage_sums_update;
ALTER TABLE public.usage_events ENABLE ALWAYS TRIGGER usage_sums_delete;

-- All of it belongs to the owner of usage_events, with whose rights the triggers run, also if a superuser runs this script.
SELECT format('ALTER %s OWNER TO %s', object.name, events.relowner::regrole)
FROM (
    SELECT
        format('TABLE %s', oid::regclass) AS name,
        relowner AS owner
    FROM pg_catalog.pg_class
    WHERE relnamespace = 'usage_sums'::regnamespace AND relkind IN ('r', 'v')
    UNION ALL
    SELECT
        format('FUNCTION %s', oid::regprocedure) AS name,
        proowner AS owner
    FROM pg_catalog.pg_proc
    WHERE pronamespace = 'usage_sums'::regnamespace
    UNION ALL
    SELECT
        'SCHEMA usage_sums' AS name,
        nspowner AS owner
    FROM pg_catalog.pg_namespace
    WHERE nspname = 'usage_sums'
) AS object
INNER JOIN pg_catalog.pg_class AS events ON events.oid = 'public.usage_events'::regclass
WHERE object.owner <> events.relowner
\gexec
-- Default privileges may have given rights to others.
SELECT DISTINCT
    format(
        'REVOKE ALL ON %s FROM %s CASCADE',
        object.name,
        CASE entry.grantee WHEN 0 THEN 'PUBLIC' ELSE entry.grantee::regrole::text END
    )
FROM (
    SELECT
        'SCHEMA usage_sums' AS name,
        nspowner AS owner,
        nspacl AS acl
    FROM pg_catalog.pg_namespace
    WHERE nspname = 'usage_sums'
    UNION ALL
    SELECT
        format('TABLE %s', oid::regclass) AS name,
        relowner AS owner,
        relacl AS acl
    FROM pg_catalog.pg_class
    WHERE relnamespace = 'usage_sums'::regnamespace AND relkind IN ('r', 'v')
    UNION ALL
    SELECT
        format('FUNCTION %s', oid::regprocedure) AS name,
        proowner AS owner,
        coalesce(proacl, acldefault('f', proowner)) AS acl
    FROM pg_catalog.pg_proc
    WHERE pronamespace = 'usage_sums'::regnamespace
) AS object
CROSS JOIN LATERAL aclexplode(object.acl) AS entry
WHERE entry.grantee <> object.owner
\gexec

-- reader_role.sql grants the same when it is run after this script.
SELECT to_regrole('credits_reader') IS NOT NULL AS has_reader
\gset
\if :has_reader
GRANT USAGE ON SCHEMA usage_sums TO credits_reader;
GRANT SELECT (account_id, day, credits_deducted_cents, event_count) ON usage_sums.days TO credits_reader;
GRANT SELECT (window_id, account_id, credits_deducted_cents, event_count) ON usage_sums.accounts TO credits_reader;
GRANT SELECT (
    day, model_id, provider, source, agent_type, credits_deducted_cents, event_count, input_tokens, cached_input_tokens,
    output_tokens, tool_call_count
) ON usage_sums.keys TO credits_reader;
GRANT SELECT (
    sign, account_id, created_at, model_id, provider, source, agent_type, credits_deducted_cents, input_tokens,
    cached_input_tokens, output_tokens, tool_call_count
) ON usage_sums.late TO credits_reader;
GRANT EXECUTE ON FUNCTION usage_sums.cover(timestamptz, timestamptz, text), usage_sums.unusable()
TO credits_reader;
DROP POLICY IF EXISTS credits_reader ON usage_sums.days;
CREATE POLICY credits_reader ON usage_sums.days FOR SELECT TO credits_reader USING (true);
DROP POLICY IF EXISTS credits_reader ON usage_sums.accounts;
CREATE POLICY credits_reader ON usage_sums.accounts FOR SELECT TO credits_reader USING (true);
DROP POLICY IF EXISTS credits_reader ON usage_sums.keys;
CREATE POLICY credits_reader ON usage_sums.keys FOR SELECT TO credits_reader USING (true);
\endif

COMMIT;
