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
--   -v previous_until=2026-11-01 -v only= -v credits_column=credits_deducted_cents -f credits_changes_only_count.sql
WITH spend AS (
    SELECT
        account_id,
        coalesce(sum(:"credits_column") FILTER (WHERE created_at >= :'since'::timestamptz), 0)
            AS total_credits_deducted_cents,
        count(*) FILTER (WHERE created_at >= :'since'::timestamptz) AS event_count,
        coalesce(sum(:"credits_column") FILTER (WHERE created_at < :'since'::timestamptz), 0)
            AS previous_credits_deducted_cents,
        count(*) FILTER (WHERE created_at < :'since'::timestamptz) AS previous_event_count
    FROM public.usage_events
    -- both windows in one scan
    WHERE created_at >= :'previous_since'::timestamptz
        AND created_at < :'until'::timestamptz
        AND (created_at >= :'since'::timestamptz OR created_at < :'previous_until'::timestamptz)
    GROUP BY account_id
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
