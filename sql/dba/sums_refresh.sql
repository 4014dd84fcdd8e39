-- sums_refresh: sum the events since the last refresh.
--
-- Run sums.sql first. Then run this script from cron, every few minutes, as a superuser or as the owner of the tables if
-- it is a member of pg_read_all_stats:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f sums_refresh.sql
-- After events before the watermark were changed, deleted or added, sum the days again from the first such day on;
-- sums_check.sql lists them:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -v since=2026-11-01 -f sums_refresh.sql
-- "since" is a UTC day, an instant of that day, or -infinity. "margin" is how old an event must be to be summed, by
-- default 5 minutes. Use -v margin='1 day' if events arrive by logical replication or through other Citus nodes.
--
-- The refresh is one transaction: if it is interrupted, nothing has changed. A second refresh waits for the first and
-- finds little to do. If a sample of the sums differs from its events, it deletes all sums, and the next refresh makes
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

SET TimeZone = 'UTC';
-- Override the settings of the role and the database.
SET statement_timeout = 0;
SET lock_timeout = 0;
SET default_transaction_isolation = 'read committed';
SET default_transaction_read_only = off;

BEGIN;

SELECT
    summed_from,
    watermark,
    held_back_by
FROM public.usage_sums_refresh((nullif(:'since', '')::timestamptz AT TIME ZONE 'UTC')::date, :'margin'::interval);

COMMIT;
