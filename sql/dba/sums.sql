-- sums: create the sums that sql/queries/sums reads, and the function that refreshes them.
--
-- Run it as the owner of the tables, not as a superuser; run it again after each upgrade of the service:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f sums.sql
-- Then schedule sums_refresh.sql every few minutes, or with pg_cron, also as the owner of the tables
--   SELECT cron.schedule('usage_sums', '*/5 * * * *',
--       $$SELECT public.usage_sums_refresh(NULL::pg_catalog.date, '5 minutes'::pg_catalog.interval)$$);
-- and set SPEND_SOURCE=sums for the service.
--
-- What is kept
--   usage_sums            one row per account and UTC day with an event
--   usage_sums_window     one row per account and window with an event of the account: the sum from an edge on. The edges
--                         are those of the service's periods (no cutoff; today, six and 29 days ago), and the same of
--                         yesterday and tomorrow
--   usage_sums_watermark  one row: the instant up to which events are summed, and the edges whose windows are complete
--
-- How it is read
--   Events before the watermark are read from the sums, the rest from usage_events, in one snapshot.
--   If a window starts at an edge, a page is read from usage_sums_window: only its own rows, and those of the accounts
--   that have an event between the watermark and the end of the window. These events are added, or subtracted if the
--   window ends before the watermark.
--   Windows that start on another day, or end more than a day before the watermark, are added up from days.
--   Windows that do not start at a UTC midnight are read from usage_events.
--
-- When it is right
--   The watermark is earlier than the start of the oldest open transaction, and created_at defaults to the start of the
--   transaction. So no event before the watermark can still appear. A refresh is one transaction: a late or missing one
--   makes answers slower, not wrong.
--
-- When it is wrong
--   The sums do not follow changes of events before the watermark. Answers are wrong after such events were
--     * changed, or deleted without their account;
--     * added: because created_at comes from another clock, the clock of the server was set back, or events were loaded;
--     * deleted with their account while session_replication_role was replica, as for changes that arrive by logical
--       replication. Otherwise foreign keys delete the sums of an account with the account.
--   sums_check.sql lists the days, and sums_refresh.sql with since=DAY repairs them. After many changes run
--     psql -X -v ON_ERROR_STOP=1 -d DATABASE -v since=-infinity -f sums_refresh.sql
--   Each refresh also compares a random sample, twenty rows of usage_sums, with their events. If one differs, it deletes
--   all sums: answers are read from the events until the next refresh has summed all of them again. This detects that all
--   events were changed, such as a column converted to another unit, but hardly ever a change of a few events.
--
-- Who waits
--   Writers of events are not affected: there is no trigger, and a refresh takes only an ACCESS SHARE lock on
--   usage_events. It locks accounts FOR KEY SHARE: until it commits, DELETE and SELECT FOR UPDATE of them wait.
--   In REPEATABLE READ a DELETE can fail with a serialization failure instead.
--
-- What it costs, measured with 8.5 million events of 100,000 accounts in 31 days, 2.5 GB with indexes
--   usage_sums: 140 bytes for each account and day with an event, 200 MB. usage_sums_window: 1.5 kB for each account that
--   was active in the last month, 140 MB.
--   The first refresh took 25 s, one with 30,000 new events 0.5 s. The first one of a day, which makes the windows of the
--   next day, took 3 s. With a million accounts the first took 60 s, and the first of a day 9 s. These two and a repair
--   lock all accounts, other refreshes those with new events.
--   A refresh leaves a dead row in usage_sums and up to nine in usage_sums_window for each account with a new event;
--   autovacuum removes them. In an hour of 500 events a second with a refresh every minute, the tables grew only with
--   the accounts that had their first event of the day. The index in the order of a page grew from 70 to 91 MB.
--
-- On Citus, which has no snapshot across nodes, the sums are different: see citus.sql.
\set ON_ERROR_STOP on

-- Names without a schema are those of PostgreSQL, also where other roles may create objects in schema public.
SET search_path = pg_catalog, pg_temp;
SET client_min_messages = warning;
-- Creating the foreign keys locks accounts, and writers would queue behind a lock request that waits.
SET lock_timeout = '2s';

BEGIN;

-- Citus refuses row-level security and functions in one transaction otherwise; PostgreSQL ignores it.
SELECT set_config('citus.multi_shard_modify_mode', 'sequential', true) AS multi_shard_modify_mode
\gset

CREATE TABLE IF NOT EXISTS public.usage_sums (
    account_id uuid NOT NULL REFERENCES public.accounts (id) ON DELETE CASCADE,
    day date NOT NULL,
    credits_deducted_cents bigint NOT NULL,
    event_count bigint NOT NULL,
    PRIMARY KEY (account_id, day)
);

CREATE TABLE IF NOT EXISTS public.usage_sums_window (
    account_id uuid NOT NULL REFERENCES public.accounts (id) ON DELETE CASCADE,
    edge timestamptz NOT NULL,
    credits_deducted_cents bigint NOT NULL,
    event_count bigint NOT NULL,
    PRIMARY KEY (account_id, edge)
);

CREATE TABLE IF NOT EXISTS public.usage_sums_watermark (
    instant timestamptz NOT NULL CHECK (instant < 'infinity'),
    is_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_only_row)
);

-- The tables, their indexes, the functions of their triggers, the tables with foreign keys to them, and the refresh must
-- belong to the owner of usage_events, to a superuser or to this role. Code of another role would run with the rights of
-- the role that refreshes. Check this before anything is written.
\set SHOW_CONTEXT never
WITH sums (relation) AS (
    SELECT oid
    FROM pg_catalog.pg_class
    WHERE relnamespace = 'public'::regnamespace AND starts_with(relname, 'usage_sums')
),

object (name, owner) AS (
    SELECT
        pg_describe_object('pg_class'::regclass, oid, 0) AS name,
        relowner AS owner
    FROM pg_catalog.pg_class
    WHERE oid IN (SELECT relation FROM sums)
        OR oid IN (
            SELECT conrelid
            FROM pg_catalog.pg_constraint
            WHERE confrelid IN (SELECT relation FROM sums)
        )
    UNION ALL
    SELECT
        pg_describe_object('pg_proc'::regclass, oid, 0) AS name,
        proowner AS owner
    FROM pg_catalog.pg_proc
    WHERE (pronamespace = 'public'::regnamespace AND starts_with(proname, 'usage_sums'))
        OR oid IN (
            SELECT tgfoid
            FROM pg_catalog.pg_trigger
            WHERE tgrelid IN (SELECT relation FROM sums)
        )
)

SELECT format('DO %L', format('BEGIN RAISE USING MESSAGE = %L; END', finding))
FROM object
INNER JOIN pg_catalog.pg_class AS events ON events.oid = 'public.usage_events'::regclass
INNER JOIN pg_catalog.pg_roles AS owner ON owner.oid = object.owner
CROSS JOIN LATERAL format('stopped: %s belongs to %s', object.name, owner.rolname) AS finding
WHERE owner.oid <> events.relowner
    AND owner.rolname <> current_user
    AND NOT owner.rolsuper
ORDER BY finding DESC
\gexec

-- Default privileges may let other roles create triggers and foreign keys.
SELECT DISTINCT
    format(
        'REVOKE TRIGGER, REFERENCES ON %s FROM %s CASCADE',
        pg_class.oid::regclass,
        CASE entry.grantee WHEN 0 THEN 'PUBLIC' ELSE entry.grantee::regrole::text END
    )
FROM pg_catalog.pg_class
CROSS JOIN LATERAL aclexplode(pg_class.relacl) AS entry
WHERE pg_class.relnamespace = 'public'::regnamespace
    AND pg_class.relname IN ('usage_sums', 'usage_sums_watermark', 'usage_sums_window')
    AND entry.privilege_type IN ('TRIGGER', 'REFERENCES')
    AND entry.grantee <> pg_class.relowner
\gexec

-- For windows over all accounts. Rows are inserted in the order of the days, so the rows of a day are adjacent and
-- (day) is enough.
CREATE INDEX IF NOT EXISTS usage_sums_day_idx ON public.usage_sums (day);

-- The order of a page, with all of its columns.
CREATE INDEX IF NOT EXISTS usage_sums_window_rank_idx
ON public.usage_sums_window (edge, credits_deducted_cents DESC, account_id) INCLUDE (event_count);

-- If the statistics list all edges, the planner expects no rows for an edge that was made since. With this target they
-- list one at most. Citus refuses the statement, and has no windows.
SELECT 'ALTER TABLE public.usage_sums_window ALTER edge SET STATISTICS 1'
WHERE to_regclass('pg_dist_partition') IS NULL
\gexec

-- Each refresh updates the rows of today and of the windows. Vacuum them often, so that the tables stay small.
ALTER TABLE public.usage_sums SET (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE public.usage_sums_window SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- An earlier version stored the first day that is not summed, and the sums of all days in a table of their own.
SELECT
    'ALTER TABLE public.usage_sums_watermark ALTER day TYPE timestamptz USING day::timestamp AT TIME ZONE ''UTC'''
        AS type,
    'ALTER TABLE public.usage_sums_watermark RENAME day TO instant' AS name,
    'DROP TABLE public.usage_sums_total' AS total,
    'DROP FUNCTION public.usage_sums_refresh(date, interval)' AS function
FROM pg_catalog.pg_attribute
WHERE attrelid = to_regclass('public.usage_sums_watermark') AND attname = 'day'
\gexec

-- edges: the values of usage_sums_window.edge whose rows are complete up to the watermark. summed: usage_sums is
-- complete up to this instant; the same as the watermark, except on Citus.
ALTER TABLE public.usage_sums_watermark
ADD COLUMN IF NOT EXISTS edges timestamptz[] NOT NULL DEFAULT '{}',
ADD COLUMN IF NOT EXISTS summed timestamptz;

-- Before the first refresh nothing is summed.
INSERT INTO public.usage_sums_watermark (instant) VALUES ('-infinity') ON CONFLICT DO NOTHING;
UPDATE public.usage_sums_watermark SET summed = instant
WHERE summed IS NULL;

-- Newer databases call the column credits_deducted_cents credits_deducted. While both exist, the older one counts.
SELECT coalesce(max(attname::text COLLATE "C"), 'credits_deducted_cents') AS credits_column
FROM pg_catalog.pg_attribute
WHERE attrelid = 'public.usage_events'::regclass AND attname IN ('credits_deducted_cents', 'credits_deducted')
\gset

-- A comment says which column the sums are of, without one credits_deducted_cents. Delete sums of another column: their
-- unit may differ. Take the lock of a refresh first.
SELECT
    'UPDATE public.usage_sums_watermark SET instant = ''-infinity'', summed = ''-infinity'', edges = ''{}'''
        AS watermark,
    'DELETE FROM public.usage_sums' AS days,
    'DELETE FROM public.usage_sums_window' AS windows,
    format('COMMENT ON COLUMN public.usage_sums.credits_deducted_cents IS %L', :'credits_column') AS name
FROM pg_catalog.pg_attribute
WHERE attrelid = 'public.usage_sums'::regclass
    AND attname = 'credits_deducted_cents'
    AND coalesce(col_description(attrelid, attnum), 'credits_deducted_cents') <> :'credits_column'
\gexec

ALTER TABLE public.usage_sums ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.usage_sums_window ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.usage_sums_watermark ENABLE ROW LEVEL SECURITY;

-- psql does not set variables in a quoted body: usage_events.credits_column is replaced by the name of the column below.
--
-- Sum the events from the watermark to the latest safe instant, in the caller's transaction. With "since", also sum the
-- days from that day on again. If a sample of the sums differs from its events, delete all sums instead. Return the
-- instants from and up to which events were summed, and what holds the second back.
--
-- The latest safe instant is "margin" before the start of the oldest transaction in this database, or before now():
-- created_at defaults to the start of the transaction. "margin" covers the time between the start of a transaction and
-- its appearance in pg_stat_activity, and clocks that differ. The start of a prepared transaction, or of one in a session
-- with track_activities off, is unknown: while there is one, the watermark stays.
CREATE OR REPLACE FUNCTION public.usage_sums_refresh(since date DEFAULT NULL, margin interval DEFAULT '5 minutes')
RETURNS TABLE (summed_from timestamptz, watermark timestamptz, held_back_by text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- Raise an error if row-level security would hide events.
SET row_security = off
-- Days are UTC days.
SET TimeZone = 'UTC'
AS $$
DECLARE
    is_distributed boolean := to_regclass('pg_dist_partition') IS NOT NULL;
    today date := (now() AT TIME ZONE 'UTC')::date;
    wanted_edges timestamptz[] := '{}';
    old record;
    oldest_start timestamptz;
    is_unknown boolean;
    -- ten pages of 8 kB
    sample_percent real := least(100, 100 * 10 * 8192.0 / greatest(1, pg_relation_size('public.usage_sums')));
    changed_day date;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'usage_sums_refresh must run READ COMMITTED'
            USING HINT = 'It lists the open transactions, and must then see everything that was committed before.';
    END IF;
    IF NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') THEN
        RAISE EXCEPTION 'usage_sums_refresh must see when transactions of other roles began'
            USING HINT = format('GRANT pg_read_all_stats TO %I;', current_user);
    END IF;

    -- A concurrent refresh waits here, and then finds little to do.
    SELECT instant, summed, edges INTO STRICT old FROM public.usage_sums_watermark FOR UPDATE;

    -- Read pg_stat_activity before pg_prepared_xacts, so that a transaction that is being prepared is in one of them. A
    -- transaction that is in neither has ended, and the statements below see it, or it begins later and writes later
    -- events. If a message consists of several transactions, each starts when the message arrived: between two of them
    -- use query_start. A walsender that streams changes only reads.
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

    watermark := least(oldest_start, now()) - margin;
    IF is_unknown THEN
        watermark := old.summed;
        held_back_by := 'a prepared transaction, or a session with track_activities off';
    ELSIF oldest_start < now() - margin THEN
        held_back_by := format('a transaction that began %s ago', now() - oldest_start);
    END IF;
    watermark := greatest(old.summed, watermark);
    summed_from := least(since::timestamptz, old.summed);
    IF is_distributed THEN
        watermark := date_trunc('day', watermark);
        summed_from := date_trunc('day', summed_from);
    ELSE
        wanted_edges := ARRAY[
            '-infinity', today - 30, today - 29, today - 28, today - 7, today - 6, today - 5, today - 1, today, today + 1
        ];
    END IF;

    -- Compare a sample of the days that are not summed again with their events: twenty rows of about ten random pages.
    BEGIN
        SELECT min(sample.day)
        INTO changed_day
        FROM (
            SELECT *
            FROM public.usage_sums TABLESAMPLE SYSTEM (sample_percent)
            -- a day at -infinity has no next day
            WHERE day < summed_from::date AND isfinite(day)
            ORDER BY random()
            LIMIT 20
        ) AS sample
        WHERE EXISTS (
            SELECT
            FROM public.usage_events
            WHERE account_id = sample.account_id
                AND created_at >= sample.day::timestamptz
                AND created_at < (sample.day + 1)::timestamptz
            HAVING (coalesce(sum(usage_events.credits_column), 0), count(*))
                IS DISTINCT FROM (sample.credits_deducted_cents, sample.event_count)
        );
    EXCEPTION WHEN feature_not_supported THEN
        -- Citus does not support this: there, run sums_check.sql.
    END;
    -- If one differs, delete all sums: until the next refresh the answers come from the events.
    IF changed_day IS NOT NULL THEN
        summed_from := '-infinity';
        watermark := '-infinity';
        wanted_edges := '{}';
        held_back_by := format('the sums of %s differed from its events: all sums were deleted', changed_day);
        RAISE WARNING '%', held_back_by;
    END IF;

    -- A lock wait ends before deadlock_timeout. Otherwise a deadlock could end the deletion instead of the refresh.
    IF NOT is_distributed THEN
        PERFORM set_config('lock_timeout', '250ms', true);
    END IF;
    FOR attempt IN 1..10 LOOP
        BEGIN
            -- Lock the accounts first, because a deletion locks its account before its sums. Lock those of the new
            -- events, or all accounts if other rows are written too. Count them, because PERFORM would keep every row
            -- in memory.
            BEGIN
                IF summed_from < old.summed OR old.edges <> wanted_edges THEN
                    PERFORM count(*) FROM (SELECT FROM public.accounts FOR KEY SHARE) AS locked;
                ELSE
                    PERFORM count(*) FROM (
                        SELECT FROM public.accounts
                        WHERE id = ANY(ARRAY(
                            SELECT DISTINCT account_id FROM public.usage_events
                            WHERE created_at >= summed_from AND created_at < watermark
                        ))
                        FOR KEY SHARE
                    ) AS locked;
                END IF;
            EXCEPTION WHEN feature_not_supported THEN
                -- Citus does not support this.
                LOCK TABLE public.accounts IN SHARE MODE;
            END;

            IF summed_from < old.summed THEN
                DELETE FROM public.usage_sums WHERE day >= summed_from::date;
                DELETE FROM public.usage_sums_window;
                old.edges := '{}';
            ELSIF old.edges <> wanted_edges THEN
                DELETE FROM public.usage_sums_window WHERE edge <> ALL(wanted_edges);
            END IF;

            IF is_distributed THEN
                INSERT INTO public.usage_sums (account_id, day, credits_deducted_cents, event_count)
                SELECT
                    account_id, (created_at AT TIME ZONE 'UTC')::date AS day, coalesce(sum(usage_events.credits_column), 0), count(*)
                FROM public.usage_events
                WHERE created_at >= summed_from AND created_at < watermark
                GROUP BY account_id, (created_at AT TIME ZONE 'UTC')::date;
            ELSE
                -- Read the events once, so that days and windows agree.
                WITH fresh AS MATERIALIZED (
                    SELECT
                        account_id,
                        created_at::date AS day,
                        coalesce(sum(usage_events.credits_column), 0) AS credits,
                        count(*) AS events
                    FROM public.usage_events
                    WHERE created_at >= summed_from AND created_at < watermark
                    GROUP BY account_id, created_at::date
                ),

                fed AS (
                    INSERT INTO public.usage_sums_window AS total
                    SELECT fresh.account_id, kept.edge, sum(fresh.credits), sum(fresh.events)
                    FROM fresh
                    INNER JOIN unnest(old.edges) AS kept (edge) ON kept.edge <= fresh.day::timestamptz
                    WHERE kept.edge = ANY(wanted_edges)
                    GROUP BY fresh.account_id, kept.edge
                    ORDER BY kept.edge, fresh.account_id
                    ON CONFLICT (account_id, edge) DO UPDATE
                    SET credits_deducted_cents = total.credits_deducted_cents + excluded.credits_deducted_cents,
                        event_count = total.event_count + excluded.event_count
                )

                INSERT INTO public.usage_sums AS total (account_id, day, credits_deducted_cents, event_count)
                SELECT fresh.account_id, fresh.day, fresh.credits, fresh.events
                FROM fresh
                ORDER BY fresh.day, fresh.account_id
                ON CONFLICT (account_id, day) DO UPDATE
                SET credits_deducted_cents = total.credits_deducted_cents + excluded.credits_deducted_cents,
                    event_count = total.event_count + excluded.event_count;
            END IF;

            -- Make the windows that are new today, or all of them after a repair.
            INSERT INTO public.usage_sums_window
            SELECT usage_sums.account_id, wanted.edge, sum(credits_deducted_cents), sum(event_count)
            FROM unnest(wanted_edges) AS wanted (edge)
            INNER JOIN public.usage_sums ON usage_sums.day >= wanted.edge::date
            WHERE wanted.edge <> ALL(old.edges)
            GROUP BY usage_sums.account_id, wanted.edge
            ORDER BY wanted.edge, usage_sums.account_id;
            EXIT;
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected THEN
                -- The error has released the locks on the accounts, so transactions that wait for one can continue.
                IF attempt = 10 THEN
                    RAISE;
                END IF;
                PERFORM pg_sleep(0.5);
            WHEN numeric_value_out_of_range THEN
                DELETE FROM public.usage_sums;
                DELETE FROM public.usage_sums_window;
                summed_from := '-infinity';
                watermark := '-infinity';
                wanted_edges := '{}';
                held_back_by := 'a sum exceeds bigint: all sums were deleted';
                RAISE WARNING '%', held_back_by;
                EXIT;
        END;
    END LOOP;

    UPDATE public.usage_sums_watermark
    SET instant = CASE WHEN is_distributed THEN summed_from ELSE watermark END, summed = watermark, edges = wanted_edges;
    RETURN NEXT;
END
$$;

SELECT
    replace(
        pg_get_functiondef('public.usage_sums_refresh(date, interval)'::regprocedure),
        'usage_events.credits_column',
        format('usage_events.%I', :'credits_column')
    )
\gexec

-- If another role created the function after the check above, CREATE OR REPLACE left it to that role.
SELECT format('ALTER FUNCTION public.usage_sums_refresh(date, interval) OWNER TO %s', relowner::regrole)
FROM pg_catalog.pg_class
WHERE oid = 'public.usage_sums'::regclass
\gexec

REVOKE EXECUTE ON FUNCTION public.usage_sums_refresh(date, interval) FROM public;

-- reader_role.sql grants the same when it is run after this script.
SELECT to_regrole('credits_reader') IS NOT NULL AS has_reader
\gset
\if :has_reader
GRANT SELECT (account_id, day, credits_deducted_cents, event_count) ON public.usage_sums TO credits_reader;
GRANT SELECT (account_id, edge, credits_deducted_cents, event_count) ON public.usage_sums_window TO credits_reader;
GRANT SELECT (instant, edges) ON public.usage_sums_watermark TO credits_reader;
DROP POLICY IF EXISTS credits_reader ON public.usage_sums;
CREATE POLICY credits_reader ON public.usage_sums FOR SELECT TO credits_reader USING (true);
DROP POLICY IF EXISTS credits_reader ON public.usage_sums_window;
CREATE POLICY credits_reader ON public.usage_sums_window FOR SELECT TO credits_reader USING (true);
DROP POLICY IF EXISTS credits_reader ON public.usage_sums_watermark;
CREATE POLICY credits_reader ON public.usage_sums_watermark FOR SELECT TO credits_reader USING (true);
\endif

COMMIT;
