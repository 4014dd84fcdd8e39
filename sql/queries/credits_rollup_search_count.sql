SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_rollup_search_count: number of accounts that a text finds and that have an event in a window.
--
-- Parameters
--   :search  text         part of the name or of any address, or eight or more characters that the id begins
--                         with; in either case
--   :since   timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until   timestamptz  end of the window, exclusive; infinity for no upper bound
-- Columns: total_count
-- Order:   one row
-- psql -X -q -v ON_ERROR_STOP=1 -v search=nova -v since=2026-11-01 -v until=infinity -f credits_rollup_search_count.sql
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
)

SELECT count(*) AS total_count
FROM (
    SELECT account_id
    FROM public.usage_events
    WHERE created_at >= :'since'::timestamptz
        AND created_at < :'until'::timestamptz
        AND account_id IN (SELECT found.account_id FROM found)
    GROUP BY account_id
) AS spenders;
