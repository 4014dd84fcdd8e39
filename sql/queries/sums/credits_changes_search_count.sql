SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_changes_search_count: number of accounts that a text finds and that are in credits_changes.
--
-- Parameters
--   :search          text         part of the name or of any address, or eight or more characters that the id begins
--                                 with; in either case
--   :since           timestamptz  start of the window, inclusive
--   :until           timestamptz  end of the window, exclusive; infinity for no upper bound
--   :previous_since  timestamptz  start of the window before, inclusive
--   :previous_until  timestamptz  end of the window before, exclusive; not after since
--   :only            text         accounts that started or stopped, or whose credits went up or down; empty for all
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: total_count
-- Order:   one row
-- psql -X -q -v ON_ERROR_STOP=1 -v search=nova -v since=2026-11-01 -v until=infinity \
--   -v previous_since=2026-10-01 -v previous_until=2026-11-01 -v only= \
--   -v credits_column=credits_deducted_cents -f sums/credits_changes_search_count.sql
--
-- usage_sums.cover(), which sql/dba/sums.sql defines, says what of the window the sums cover.
WITH found AS (
    -- lower() on both sides and LIKE, so that an index of pg_trgm can serve it: see sql/dba/indexes.sql. No backslash,
    -- whose meaning is a setting.
    SELECT id AS account_id
    FROM public.accounts
    WHERE lower(name COLLATE "default")
        LIKE '%' || replace(replace(replace(lower(:'search'::text), '!', '!!'), '%', '!%'), '_', '!_') || '%' ESCAPE '!'
        -- Ids that begin with the text lie between it filled up with 0 and with f. These are null unless they are UUIDs;
        -- a text of fewer than eight characters is filled up with x.
        OR (
            id >= substring(
                :'search'::text || substr('xxxxxxxx-0000-0000-0000-000000000000', length(:'search'::text) + 1),
                '^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$'
            )::uuid
            AND id <= substring(
                :'search'::text || substr('xxxxxxxx-ffff-ffff-ffff-ffffffffffff', length(:'search'::text) + 1),
                '^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$'
            )::uuid
        )
    UNION ALL
    SELECT account_id
    FROM public.account_emails
    WHERE lower(email COLLATE "default")
        LIKE '%' || replace(replace(replace(lower(:'search'::text), '!', '!!'), '%', '!%'), '_', '!_') || '%' ESCAPE '!'
),

cover AS (
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

-- With IS TRUE the planner hashes the list, however few accounts it expects.
part AS (
    SELECT
        account_id,
        credits_deducted_cents,
        event_count::bigint AS event_count,
        true AS is_in_window
    FROM usage_sums.accounts
    WHERE window_id = (SELECT cover.window_id FROM cover)
        AND (account_id IN (SELECT found.account_id FROM found)) IS TRUE
    UNION ALL
    SELECT
        account_id,
        credits_deducted_cents,
        event_count::bigint AS event_count,
        true AS is_in_window
    FROM usage_sums.days
    WHERE day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT cover.day_until FROM cover)
        AND account_id IN (SELECT found.account_id FROM found)
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
        AND (account_id IN (SELECT found.account_id FROM found)) IS TRUE
    UNION ALL
    SELECT
        account_id,
        coalesce(:"credits_column", 0)::bigint AS credits_deducted_cents,
        (SELECT cover.rest_sign FROM cover)::bigint AS event_count,
        true AS is_in_window
    FROM public.usage_events
    -- few events: read them in the order of time
    WHERE (SELECT cover.rest_until < cover.rest_from + interval '2 days' FROM cover)
        AND created_at >= (SELECT cover.rest_from FROM cover)
        AND created_at < (SELECT cover.rest_until FROM cover)
        AND (account_id IN (SELECT found.account_id FROM found)) IS TRUE
    UNION ALL
    SELECT
        account_id,
        coalesce(:"credits_column", 0)::bigint AS credits_deducted_cents,
        (SELECT cover.rest_sign FROM cover)::bigint AS event_count,
        true AS is_in_window
    FROM public.usage_events
    WHERE (SELECT cover.rest_until >= cover.rest_from + interval '2 days' FROM cover)
        AND created_at >= (SELECT cover.rest_from FROM cover)
        AND created_at < (SELECT cover.rest_until FROM cover)
        AND account_id IN (SELECT found.account_id FROM found)
    UNION ALL
    SELECT
        account_id,
        credits_deducted_cents,
        event_count::bigint AS event_count,
        false AS is_in_window
    FROM usage_sums.accounts
    WHERE window_id = (SELECT previous.window_id FROM previous)
        AND (account_id IN (SELECT found.account_id FROM found)) IS TRUE
    UNION ALL
    SELECT
        account_id,
        credits_deducted_cents,
        event_count::bigint AS event_count,
        false AS is_in_window
    FROM usage_sums.days
    WHERE day >= (:'previous_since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT previous.day_until FROM previous)
        AND account_id IN (SELECT found.account_id FROM found)
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
        AND (account_id IN (SELECT found.account_id FROM found)) IS TRUE
    UNION ALL
    SELECT
        account_id,
        coalesce(:"credits_column", 0)::bigint AS credits_deducted_cents,
        (SELECT previous.rest_sign FROM previous)::bigint AS event_count,
        false AS is_in_window
    FROM public.usage_events
    WHERE (SELECT previous.rest_until < previous.rest_from + interval '2 days' FROM previous)
        AND created_at >= (SELECT previous.rest_from FROM previous)
        AND created_at < (SELECT previous.rest_until FROM previous)
        AND (account_id IN (SELECT found.account_id FROM found)) IS TRUE
    UNION ALL
    SELECT
        account_id,
        coalesce(:"credits_column", 0)::bigint AS credits_deducted_cents,
        (SELECT previous.rest_sign FROM previous)::bigint AS event_count,
        false AS is_in_window
    FROM public.usage_events
    WHERE (SELECT previous.rest_until >= previous.rest_from + interval '2 days' FROM previous)
        AND created_at >= (SELECT previous.rest_from FROM previous)
        AND created_at < (SELECT previous.rest_until FROM previous)
        AND account_id IN (SELECT found.account_id FROM found)
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
