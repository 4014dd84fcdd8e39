-- sums_refresh: sum the days that have ended since the last time, so that no answer reads their events again.
--
-- Run by the owner of the tables, who must be a member of pg_read_all_stats, or by a superuser; after sums.sql,
-- and then by cron, once an hour or once a day:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f sums_refresh.sql
-- To sum again from a day on, after events of closed days were changed, deleted or added (sums_check.sql lists
-- such days; nothing else can see them):
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -v since=2026-11-01 -f sums_refresh.sql
-- "since" is a UTC day, or an instant of it, or -infinity. To leave the days open for longer, as where events come by
-- logical replication, or from Citus' other nodes: -v margin='1 day' (5 minutes, unless it is said).
--
-- It is one transaction: interrupted at any moment it has changed nothing, and the next run does it all. A second one
-- that is started meanwhile waits, and finds nothing left to do. It reads usage_events as any query does; who deletes an
-- account waits until it is done: see sums.sql, where it is defined.
--
-- Columns: first_day (the first day that was summed), watermark (the first day that is not), held_back_by (why the
--   watermark is not today; empty when it is)
\set ON_ERROR_STOP on
\if :{?since}
\else
\set since ''
\endif
\if :{?margin}
\else
\set margin '5 minutes'
\endif

SET TimeZone = 'UTC';
-- A time limit of the role or the database is not meant for this.
SET statement_timeout = 0;
SET lock_timeout = 0;
SET default_transaction_isolation = 'read committed';
SET default_transaction_read_only = off;

BEGIN;

SELECT
    first_day,
    watermark,
    held_back_by
FROM public.usage_sums_refresh((nullif(:'since', '')::timestamptz AT TIME ZONE 'UTC')::date, :'margin'::interval);

COMMIT;
