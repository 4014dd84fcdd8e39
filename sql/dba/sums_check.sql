-- sums_check: list the sums that differ from their events, as a proof that none does.
--
-- Columns: sums (the table), day, difference_count (rows that differ), credits_deducted_cents and event_count (what they
--   should be together), summed_credits_deducted_cents and summed_event_count (what they are)
-- Order:   sums, day
-- No rows mean that the sums are right. The ledger counts as part of the sums. The rows of usage_sums.accounts have no day:
-- they are compared with the days of their window, and their number with account_count.
-- While usage_sums.unusable() gives a reason, the sums are not used, and this list says nothing.
--
-- It is read-only and reads all events before the watermark. Run it as the owner of the tables:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f sums_check.sql
\set ON_ERROR_STOP on

-- Names without a schema are those of PostgreSQL, also where other roles may create objects in schema public.
SET search_path = pg_catalog, pg_temp;
SET TimeZone = 'UTC';
SET statement_timeout = 0;
-- Raise an error if row-level security would hide rows.
SET row_security = off;

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

-- Newer databases call the column credits_deducted_cents credits_deducted. While both exist, the older one counts.
SELECT coalesce(max(attname::text COLLATE "C"), 'credits_deducted_cents') AS credits_column
FROM pg_catalog.pg_attribute
WHERE attrelid = 'public.usage_events'::regclass AND attname IN ('credits_deducted_cents', 'credits_deducted')
\gset

WITH event AS (
    SELECT
        account_id,
        created_at::date AS day,
        model_id,
        provider,
        source,
        agent_type,
        :"credits_column" AS credits_deducted_cents
    FROM public.usage_events
    WHERE created_at < (SELECT max(instant) FROM usage_sums.watermark)
),

late AS (
    SELECT
        sign,
        account_id,
        created_at::date AS day,
        model_id,
        provider,
        source,
        agent_type,
        credits_deducted_cents
    FROM usage_sums.late
    WHERE created_at < (SELECT max(instant) FROM usage_sums.watermark)
),

-- The rows of the sums with the sign -1, and what they should be, from the events, with the sign 1.
entry AS (
    SELECT
        'usage_sums.days' AS sums,
        day,
        account_id::text AS key,
        -1 AS sign,
        credits_deducted_cents::numeric AS credits_deducted_cents,
        event_count::bigint AS event_count
    FROM usage_sums.days
    UNION ALL
    SELECT
        'usage_sums.days' AS sums,
        day,
        account_id::text AS key,
        -1 AS sign,
        sign * coalesce(credits_deducted_cents, 0)::numeric AS credits_deducted_cents,
        sign::bigint AS event_count
    FROM late
    UNION ALL
    SELECT
        'usage_sums.days' AS sums,
        day,
        account_id::text AS key,
        1 AS sign,
        coalesce(credits_deducted_cents, 0)::numeric AS credits_deducted_cents,
        1 AS event_count
    FROM event
    UNION ALL
    SELECT
        'usage_sums.keys' AS sums,
        day,
        jsonb_build_array(model_id, provider, source, agent_type)::text AS key,
        -1 AS sign,
        credits_deducted_cents,
        event_count
    FROM usage_sums.keys
    UNION ALL
    SELECT
        'usage_sums.keys' AS sums,
        day,
        jsonb_build_array(model_id, provider, source, agent_type)::text AS key,
        -1 AS sign,
        sign * coalesce(credits_deducted_cents, 0)::numeric AS credits_deducted_cents,
        sign::bigint AS event_count
    FROM late
    UNION ALL
    SELECT
        'usage_sums.keys' AS sums,
        day,
        jsonb_build_array(model_id, provider, source, agent_type)::text AS key,
        1 AS sign,
        coalesce(credits_deducted_cents, 0)::numeric AS credits_deducted_cents,
        1 AS event_count
    FROM event
    UNION ALL
    SELECT
        'usage_sums.accounts' AS sums,
        NULL AS day,
        concat(window_id, ' ', account_id) AS key,
        -1 AS sign,
        credits_deducted_cents::numeric AS credits_deducted_cents,
        event_count::bigint AS event_count
    FROM usage_sums.accounts
    UNION ALL
    SELECT
        'usage_sums.accounts' AS sums,
        NULL AS day,
        concat(kept.window_id, ' ', days.account_id) AS key,
        1 AS sign,
        days.credits_deducted_cents::numeric AS credits_deducted_cents,
        days.event_count::bigint AS event_count
    FROM usage_sums.windows AS kept
    INNER JOIN usage_sums.days AS days ON days.day >= kept.since::date AND days.day < kept.until::date
    UNION ALL
    SELECT
        'usage_sums.windows' AS sums,
        NULL AS day,
        window_id::text AS key,
        -1 AS sign,
        0 AS credits_deducted_cents,
        account_count AS event_count
    FROM usage_sums.windows
    UNION ALL
    SELECT
        'usage_sums.windows' AS sums,
        NULL AS day,
        window_id::text AS key,
        1 AS sign,
        0 AS credits_deducted_cents,
        1 AS event_count
    FROM usage_sums.accounts
),

compared AS (
    SELECT
        sums,
        day,
        coalesce(sum(credits_deducted_cents) FILTER (WHERE sign > 0), 0) AS credits_deducted_cents,
        coalesce(sum(event_count) FILTER (WHERE sign > 0), 0) AS event_count,
        coalesce(sum(credits_deducted_cents) FILTER (WHERE sign < 0), 0) AS summed_credits_deducted_cents,
        coalesce(sum(event_count) FILTER (WHERE sign < 0), 0) AS summed_event_count
    FROM entry
    GROUP BY sums, day, key
)

SELECT
    sums,
    day,
    count(*) AS difference_count,
    sum(credits_deducted_cents) AS credits_deducted_cents,
    sum(event_count) AS event_count,
    sum(summed_credits_deducted_cents) AS summed_credits_deducted_cents,
    sum(summed_event_count) AS summed_event_count
FROM compared
WHERE (credits_deducted_cents, event_count) <> (summed_credits_deducted_cents, summed_event_count)
GROUP BY sums, day
ORDER BY sums ASC, day ASC;
