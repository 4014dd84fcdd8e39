-- sums_refresh: sum the events since the last refresh.
--
-- Run sums.sql first. Then run this script from cron, every few minutes, as the owner of the tables, to whom a superuser
-- must have granted pg_read_all_stats:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f sums_refresh.sql
-- After events before the watermark were changed, deleted or added, sum the days again from the first such day on;
-- sums_check.sql lists them:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -v since=2026-11-01 -f sums_refresh.sql
-- "since" is a UTC day, an instant of that day, or -infinity. "margin" is how old an event must be to be summed, by
-- default 5 minutes. Use -v margin='1 day' if events arrive by logical replication or through other Citus nodes.
--
-- The refresh is one transaction: if it is interrupted, nothing has changed. A second refresh waits for the first, and
-- then finds little to do. If a sample of the sums differs from its events, it deletes all sums, and the next refresh makes
-- them again. If a transaction keeps an account locked for several seconds, the refresh fails, and the next one does its
-- work. The function is defined in sums.sql.
--
-- Columns: summed_from (instant from which events were summed), watermark (instant up to which they are summed),
--   held_back_by (an old transaction that holds the watermark back, or that all sums were deleted; otherwise empty)
\set ON_ERROR_STOP on
\if :{?since}
\else
\set since ''
\endif
\if :{?margin}
\else
\set margin '5 minutes'
\endif

-- Names without a schema are those of PostgreSQL, also where other roles may create objects in schema public.
SET search_path = pg_catalog, pg_temp;
SET TimeZone = 'UTC';
-- Override the settings of the role and the database.
SET statement_timeout = 0;
SET lock_timeout = 0;
SET default_transaction_isolation = 'read committed';
SET default_transaction_read_only = off;

-- The tables and the function must belong to the owner of usage_events, to a superuser or to this role. Code of another
-- role would run with the rights of this one.
\set SHOW_CONTEXT never
SELECT format('DO %L', format('BEGIN RAISE USING MESSAGE = %L; END', finding))
FROM (
    SELECT
        oid::regclass::text AS name,
        relowner AS owner
    FROM pg_catalog.pg_class
    WHERE oid IN (
            'public.usage_sums'::regclass, 'public.usage_sums_watermark'::regclass, 'public.usage_sums_window'::regclass
        )
    UNION ALL
    SELECT
        oid::regprocedure::text AS name,
        proowner AS owner
    FROM pg_catalog.pg_proc
    WHERE oid = 'public.usage_sums_refresh(date, interval)'::regprocedure
) AS object
INNER JOIN pg_catalog.pg_class AS events ON events.oid = 'public.usage_events'::regclass
INNER JOIN pg_catalog.pg_roles AS owner ON owner.oid = object.owner
CROSS JOIN LATERAL format('stopped: %s belongs to %s', object.name, owner.rolname) AS finding
WHERE owner.oid <> events.relowner
    AND owner.rolname <> current_user
    AND NOT owner.rolsuper
\gexec

BEGIN;

SELECT
    summed_from,
    watermark,
    held_back_by
FROM public.usage_sums_refresh((nullif(:'since', '')::timestamptz AT TIME ZONE 'UTC')::date, :'margin'::interval);

COMMIT;
