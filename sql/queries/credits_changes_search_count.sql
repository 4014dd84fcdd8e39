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
--   -v credits_column=credits_deducted_cents -f credits_changes_search_count.sql
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
    UNION
    SELECT account_id
    FROM public.account_emails
    WHERE lower(email COLLATE "default")
        LIKE '%' || replace(replace(replace(lower(:'search'::text), '!', '!!'), '%', '!%'), '_', '!_') || '%' ESCAPE '!'
),

spend AS (
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
        AND account_id IN (SELECT found.account_id FROM found)
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
