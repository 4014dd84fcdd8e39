SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_changes_only_count: number of accounts in credits_changes that started, stopped, went up or down.
--
-- Parameters
--   :since           timestamptz  start of the window, inclusive
--   :until           timestamptz  end of the window, exclusive; infinity for no upper bound
--   :previous_since  timestamptz  start of the window before, inclusive
--   :previous_until  timestamptz  end of the window before, exclusive; not after since
--   :only            text         accounts that started or stopped, or whose credits went up or down; empty for all
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: total_count
-- Order:   one row
-- psql -X -q -v ON_ERROR_STOP=1 -v since=2026-11-01 -v until=infinity -v previous_since=2026-10-01 \
--   -v previous_until=2026-11-01 -v only= -v credits_column=credits_deducted_cents -f sums/credits_changes_only_count.sql
--
-- usage_sums.cover(), which sql/dba/sums.sql defines, says what of the window the sums cover.
WITH cover AS (
    SELECT
        window_id,
        day_until,
        stop,
        rest_from,
        rest_until,
        rest_sign
    FROM usage_sums.cover(:'since'::timestamptz, :'until'::timestamptz, 'windows'::text)
),

previous AS (
    SELECT
        window_id,
        day_until,
        stop,
        rest_from,
        rest_until,
        rest_sign
    FROM usage_sums.cover(:'previous_since'::timestamptz, :'previous_until'::timestamptz, 'windows'::text)
),

part AS (
    SELECT
        account_id,
        credits_deducted_cents,
        event_count::bigint AS event_count,
        true AS is_in_window
    FROM usage_sums.accounts
    WHERE window_id = (SELECT cover.window_id FROM cover)
    UNION ALL
    SELECT
        account_id,
        credits_deducted_cents,
        event_count::bigint AS event_count,
        true AS is_in_window
    FROM usage_sums.days
    WHERE day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT cover.day_until FROM cover)
    UNION ALL
    SELECT
        account_id,
        coalesce(credits_deducted_cents, 0) AS credits_deducted_cents,
        sign::bigint AS event_count,
        true AS is_in_window
    FROM usage_sums.late
    WHERE (SELECT cover.stop > :'since'::timestamptz FROM cover)
        AND created_at >= :'since'::timestamptz
        AND created_at < (SELECT cover.stop FROM cover)
    UNION ALL
    SELECT
        account_id,
        coalesce(:"credits_column", 0)::bigint AS credits_deducted_cents,
        (SELECT cover.rest_sign FROM cover)::bigint AS event_count,
        true AS is_in_window
    FROM public.usage_events
    WHERE created_at >= (SELECT cover.rest_from FROM cover)
        AND created_at < (SELECT cover.rest_until FROM cover)
    UNION ALL
    SELECT
        account_id,
        credits_deducted_cents,
        event_count::bigint AS event_count,
        false AS is_in_window
    FROM usage_sums.accounts
    WHERE window_id = (SELECT previous.window_id FROM previous)
    UNION ALL
    SELECT
        account_id,
        credits_deducted_cents,
        event_count::bigint AS event_count,
        false AS is_in_window
    FROM usage_sums.days
    WHERE day >= (:'previous_since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT previous.day_until FROM previous)
    UNION ALL
    SELECT
        account_id,
        coalesce(credits_deducted_cents, 0) AS credits_deducted_cents,
        sign::bigint AS event_count,
        false AS is_in_window
    FROM usage_sums.late
    WHERE (SELECT previous.stop > :'previous_since'::timestamptz FROM previous)
        AND created_at >= :'previous_since'::timestamptz
        AND created_at < (SELECT previous.stop FROM previous)
    UNION ALL
    SELECT
        account_id,
        coalesce(:"credits_column", 0)::bigint AS credits_deducted_cents,
        (SELECT previous.rest_sign FROM previous)::bigint AS event_count,
        false AS is_in_window
    FROM public.usage_events
    WHERE created_at >= (SELECT previous.rest_from FROM previous)
        AND created_at < (SELECT previous.rest_until FROM previous)
),

spend AS (
    SELECT
        account_id,
        -- Events with a negative count are subtracted.
        coalesce(sum(credits_deducted_cents) FILTER (WHERE is_in_window AND event_count > 0), 0)
        - coalesce(sum(credits_deducted_cents) FILTER (WHERE is_in_window AND event_count < 0), 0)
            AS total_credits_deducted_cents,
        coalesce(sum(event_count) FILTER (WHERE is_in_window), 0)::bigint AS event_count,
        coalesce(sum(credits_deducted_cents) FILTER (WHERE NOT is_in_window AND event_count > 0), 0)
        - coalesce(sum(credits_deducted_cents) FILTER (WHERE NOT is_in_window AND event_count < 0), 0)
            AS previous_credits_deducted_cents,
        coalesce(sum(event_count) FILTER (WHERE NOT is_in_window), 0)::bigint AS previous_event_count
    FROM part
    GROUP BY account_id
    -- neither number is below 0
    HAVING sum(event_count) > 0
)

SELECT count(*) AS total_count
FROM spend
WHERE
    CASE :'only'::text
        WHEN '' THEN true
        WHEN 'started' THEN previous_event_count = 0
        WHEN 'stopped' THEN event_count = 0
        WHEN 'up' THEN total_credits_deducted_cents > previous_credits_deducted_cents
        WHEN 'down' THEN total_credits_deducted_cents < previous_credits_deducted_cents
        -- fails, with the value in the message
        ELSE (:'only'::text || ' is not started, stopped, up or down')::boolean
    END;
