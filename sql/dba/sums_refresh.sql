-- sums_refresh: add to the sums what was added and changed since the last refresh.
--
-- Run sums.sql first. Then run this script from cron or a timer, every minute, as the owner of the tables, to whom a
-- superuser must have granted pg_read_all_stats:
--   psql -X -q -v ON_ERROR_STOP=1 -d DATABASE -f sums_refresh.sql
--
-- The function is defined in sums.sql. A refresh moves the watermark to where the one before has planned it, so this script
-- calls it twice. Each call is one transaction: if it is interrupted, nothing has changed. Another refresh waits for it. If
-- no refresh runs, answers stay right, and take longer.
--
-- Columns: watermark (instant up to which events are summed), made_again (why all sums were made again; otherwise empty),
--   held_back_by (what holds the watermark back; otherwise empty)
\set ON_ERROR_STOP on

-- Names without a schema are those of PostgreSQL, also where other roles may create objects in schema public.
SET search_path = pg_catalog, pg_temp;
SET TimeZone = 'UTC';
-- Override the settings of the role and the database.
SET statement_timeout = 0;
SET lock_timeout = 0;
SET default_transaction_isolation = 'read committed';
SET default_transaction_read_only = off;

-- The schema of the sums must belong to the owner of usage_events, to a superuser or to this role.
-- Code of another role would run with the rights of this one.
\set SHOW_CONTEXT never
SELECT format('DO %L', format('BEGIN RAISE USING MESSAGE = %L; END', finding))
FROM pg_catalog.pg_namespace AS schema
INNER JOIN pg_catalog.pg_class AS events ON events.oid = 'public.usage_events'::regclass
INNER JOIN pg_catalog.pg_roles AS owner ON owner.oid = schema.nspowner
CROSS JOIN LATERAL format('stopped: schema usage_sums belongs to %s', owner.rolname) AS finding
WHERE schema.nspname = 'usage_sums'
    AND owner.oid <> events.relowner
    AND owner.rolname <> current_user
    AND NOT owner.rolsuper
\gexec

SELECT coalesce(made_again, '') AS made_again_before
FROM usage_sums.refresh()
\gset

SELECT
    watermark,
    coalesce(made_again, nullif(:'made_again_before', '')) AS made_again,
    held_back_by
FROM usage_sums.refresh();
