SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_rollup_previous: credits spent and number of events of given accounts in the window before.
--
-- Parameters
--   :account_ids     uuid[]       the accounts, as {id,id}
--   :previous_since  timestamptz  start of the window before, inclusive
--   :previous_until  timestamptz  end of the window before, exclusive
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: account_id, previous_credits_deducted_cents, previous_event_count
-- Order:   account_id; no row for an account without events
-- psql -X -q -v ON_ERROR_STOP=1 -v account_ids={3c90c3cc-0d44-4b50-8888-8dd25736052a} -v previous_since=2026-10-01 \
--   -v previous_until=2026-11-01 -v credits_column=credits_deducted_cents -f sums/credits_rollup_previous.sql
--
-- Whole days before the watermark are read from the sums that sql/dba/sums.sql defines, the rest from usage_events.
WITH edge AS (
    SELECT
        greatest(
            :'previous_since'::timestamptz,
            -- the last UTC midnight of the window that is not after the watermark
            (
                least(coalesce(max(instant), '-infinity'), :'previous_until'::timestamptz) AT TIME ZONE 'UTC'
            )::date::timestamp AT TIME ZONE 'UTC'
        ) AS instant
    FROM public.usage_sums_watermark
    -- for a window that does not start at a UTC midnight, nothing is read from the sums
    WHERE (:'previous_since'::timestamptz AT TIME ZONE 'UTC')::date = :'previous_since'::timestamptz AT TIME ZONE 'UTC'
),

part AS (
    SELECT
        account_id,
        credits_deducted_cents,
        event_count
    FROM public.usage_sums
    WHERE account_id = ANY(:'account_ids'::uuid[])
        AND day >= (:'previous_since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT (edge.instant AT TIME ZONE 'UTC')::date FROM edge)
    UNION ALL
    SELECT
        account_id,
        coalesce(:"credits_column", 0)::bigint AS credits_deducted_cents,
        1::bigint AS event_count
    FROM public.usage_events
    WHERE account_id = ANY(:'account_ids'::uuid[])
        AND created_at >= (SELECT edge.instant FROM edge)
        AND created_at < :'previous_until'::timestamptz
)

SELECT
    account_id,
    sum(credits_deducted_cents) AS previous_credits_deducted_cents,
    sum(event_count)::bigint AS previous_event_count
FROM part
GROUP BY account_id
ORDER BY account_id ASC;
