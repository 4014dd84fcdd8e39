SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_rollup_previous: credits spent and number of events of given accounts in the window before, from the sums.
-- Parameters, columns and order are those of ../credits_rollup_previous.sql. usage_sums.cover() is in sql/dba/sums.sql.
WITH cover AS (
    SELECT window_id, day_until, stop, rest_from, rest_until, rest_sign
    FROM usage_sums.cover(:'previous_since'::timestamptz, :'previous_until'::timestamptz, 'windows'::text)
    -- fails for filters: sums of accounts have none
    WHERE replace(:'filters'::jsonb::text, '{}', 'true')::boolean
),

part AS (
    SELECT account_id, credits_deducted_cents, event_count::bigint AS event_count
    FROM usage_sums.accounts
    WHERE window_id = (SELECT cover.window_id FROM cover)
        AND account_id = ANY(:'account_ids'::uuid[])
    UNION ALL
    SELECT account_id, credits_deducted_cents, event_count::bigint AS event_count
    FROM usage_sums.days
    WHERE day >= (:'previous_since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT cover.day_until FROM cover)
        AND account_id = ANY(:'account_ids'::uuid[])
    UNION ALL
    SELECT account_id, coalesce(credits_deducted_cents, 0) AS credits_deducted_cents, sign::bigint AS event_count
    FROM usage_sums.late
    WHERE (SELECT cover.stop > :'previous_since'::timestamptz FROM cover)
        AND created_at >= :'previous_since'::timestamptz
        AND created_at < (SELECT cover.stop FROM cover)
        AND account_id = ANY(:'account_ids'::uuid[])
    UNION ALL
    SELECT
        account_id,
        coalesce(:"credits_column", 0)::bigint AS credits_deducted_cents,
        (SELECT cover.rest_sign FROM cover)::bigint AS event_count
    FROM public.usage_events
    WHERE created_at >= (SELECT cover.rest_from FROM cover) AND created_at < (SELECT cover.rest_until FROM cover)
        AND account_id = ANY(:'account_ids'::uuid[])
)

SELECT
    account_id,
    -- Events with a negative count are subtracted.
    coalesce(sum(credits_deducted_cents) FILTER (WHERE event_count > 0), 0)
    - coalesce(sum(credits_deducted_cents) FILTER (WHERE event_count < 0), 0)
        AS previous_credits_deducted_cents,
    sum(event_count)::bigint AS previous_event_count
FROM part
GROUP BY account_id
HAVING sum(event_count) > 0
ORDER BY account_id ASC;
