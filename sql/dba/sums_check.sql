-- sums_check: list the days whose sums differ from their events.
--
-- Columns: day, account_count (accounts that differ on that day), credits_deducted_cents and event_count (from their
--   events), summed_credits_deducted_cents and summed_event_count (from their rows in usage_sums)
-- Order:   day
-- No rows mean that the sums are right. A row without a day counts the rows of usage_sums_window that differ from the
-- sum of their days.
--
-- To repair the sums, run sums_refresh.sql with since=DAY, where DAY is the earliest day listed. If there is only a row
-- without a day, use any day before the watermark. The repair makes all windows again.
--
-- It is read-only and reads all events before the watermark. With -v since=2026-11-01 it reads those from that UTC day on
-- and does not check the windows. With yesterday as "since" it reads two days, and can run after each refresh.
-- Run it as the owner of the tables:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f sums_check.sql
\set ON_ERROR_STOP on
\if :{?since}
\else
\set since -infinity
\endif

-- Names without a schema are those of PostgreSQL, also where other roles may create objects in schema public.
SET search_path = pg_catalog, pg_temp;
SET TimeZone = 'UTC';
SET statement_timeout = 0;
-- Raise an error if row-level security would hide rows.
SET row_security = off;

-- The tables must belong to the owner of usage_events, to a superuser or to this role. A view of another role could run
-- its code with the rights of this one.
\set SHOW_CONTEXT never
SELECT format('DO %L', format('BEGIN RAISE USING MESSAGE = %L; END', finding))
FROM pg_catalog.pg_class AS relation
INNER JOIN pg_catalog.pg_class AS events ON events.oid = 'public.usage_events'::regclass
INNER JOIN pg_catalog.pg_roles AS owner ON owner.oid = relation.relowner
CROSS JOIN LATERAL format('stopped: %s belongs to %s', relation.oid::regclass, owner.rolname) AS finding
WHERE relation.oid IN (
        'public.usage_sums'::regclass, 'public.usage_sums_watermark'::regclass, 'public.usage_sums_window'::regclass
    )
    AND owner.oid <> events.relowner
    AND owner.rolname <> current_user
    AND NOT owner.rolsuper
\gexec

-- Newer databases call the column credits_deducted_cents credits_deducted. While both exist, the older one counts.
SELECT coalesce(max(attname::text COLLATE "C"), 'credits_deducted_cents') AS credits_column
FROM pg_catalog.pg_attribute
WHERE attrelid = 'public.usage_events'::regclass AND attname IN ('credits_deducted_cents', 'credits_deducted')
\gset

WITH counted AS (
    SELECT
        account_id,
        (created_at AT TIME ZONE 'UTC')::date AS day,
        coalesce(sum(:"credits_column"), 0) AS credits_deducted_cents,
        count(*) AS event_count
    FROM public.usage_events
    WHERE created_at >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date::timestamp AT TIME ZONE 'UTC'
        AND created_at < (SELECT max(summed) FROM public.usage_sums_watermark)
    GROUP BY account_id, (created_at AT TIME ZONE 'UTC')::date
),

summed AS (
    SELECT
        account_id,
        day,
        credits_deducted_cents,
        event_count
    FROM public.usage_sums
    WHERE day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
),

-- what usage_sums_window should contain
total AS (
    SELECT
        usage_sums.account_id,
        kept.edge,
        sum(usage_sums.credits_deducted_cents) AS credits_deducted_cents,
        sum(usage_sums.event_count) AS event_count
    FROM (SELECT unnest(edges) AS edge FROM public.usage_sums_watermark) AS kept
    INNER JOIN public.usage_sums ON usage_sums.day >= (kept.edge AT TIME ZONE 'UTC')::date
    WHERE :'since'::timestamptz = '-infinity'
    GROUP BY usage_sums.account_id, kept.edge
),

made AS (
    SELECT
        account_id,
        edge,
        credits_deducted_cents,
        event_count
    FROM public.usage_sums_window
    WHERE :'since'::timestamptz = '-infinity'
)

SELECT
    coalesce(counted.day, summed.day) AS day,
    count(*) AS account_count,
    coalesce(sum(counted.credits_deducted_cents), 0) AS credits_deducted_cents,
    coalesce(sum(counted.event_count), 0) AS event_count,
    coalesce(sum(summed.credits_deducted_cents), 0) AS summed_credits_deducted_cents,
    coalesce(sum(summed.event_count), 0) AS summed_event_count
FROM counted
FULL JOIN summed ON summed.account_id = counted.account_id AND summed.day = counted.day
WHERE (counted.credits_deducted_cents, counted.event_count)
    IS DISTINCT FROM (summed.credits_deducted_cents, summed.event_count)
GROUP BY coalesce(counted.day, summed.day)
UNION ALL
SELECT
    NULL AS day,
    count(*) AS account_count,
    coalesce(sum(total.credits_deducted_cents), 0) AS credits_deducted_cents,
    coalesce(sum(total.event_count), 0) AS event_count,
    coalesce(sum(made.credits_deducted_cents), 0) AS summed_credits_deducted_cents,
    coalesce(sum(made.event_count), 0) AS summed_event_count
FROM total
FULL JOIN made ON made.account_id = total.account_id AND made.edge = total.edge
WHERE (total.credits_deducted_cents, total.event_count)
    IS DISTINCT FROM (made.credits_deducted_cents, made.event_count)
HAVING count(*) > 0
ORDER BY day ASC;
