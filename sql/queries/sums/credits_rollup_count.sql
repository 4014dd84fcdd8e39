SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_rollup_count: number of accounts with an event in a window, from the sums.
-- Parameters, columns and order are those of ../credits_rollup_count.sql. usage_sums.cover() is in sql/dba/sums.sql.
WITH found AS MATERIALIZED (
    SELECT id AS account_id
    FROM public.accounts
    WHERE lower(name COLLATE "default")
        LIKE '%' || replace(replace(replace(lower(:'search'::text), '!', '!!'), '%', '!%'), '_', '!_') || '%' ESCAPE '!'
        -- the beginning of an id: a range, which an index can serve; null where the text cannot be one
        OR id BETWEEN rpad(substring(replace(:'search'::text, '-', ''), '^[0-9A-Fa-f]{8,32}$'), 32, '0')::uuid
        AND rpad(substring(replace(:'search'::text, '-', ''), '^[0-9A-Fa-f]{8,32}$'), 32, 'f')::uuid
        AND starts_with(id::text, lower(:'search'::text))
    UNION ALL
    SELECT account_id
    FROM public.account_emails
    WHERE lower(email COLLATE "default")
        LIKE '%' || replace(replace(replace(lower(:'search'::text), '!', '!!'), '%', '!%'), '_', '!_') || '%' ESCAPE '!'
),

cover AS (
    SELECT window_id, account_count, day_until, stop, rest_from, rest_until, rest_sign
    FROM usage_sums.cover(:'since'::timestamptz, :'until'::timestamptz, 'windows'::text)
    -- fails for filters: sums of accounts have none
    WHERE replace(:'filters'::jsonb::text, '{}', 'true')::boolean
),

-- What no kept sum covers: late changes, and the other events.
beside AS NOT MATERIALIZED (
    SELECT account_id, sign::bigint AS event_count
    FROM usage_sums.late
    -- not at all where the sums are not used, however long the ledger is
    WHERE (SELECT cover.stop > :'since'::timestamptz FROM cover)
        AND created_at >= :'since'::timestamptz AND created_at < (SELECT cover.stop FROM cover)
    UNION ALL
    SELECT account_id, (SELECT cover.rest_sign FROM cover)::bigint AS event_count
    FROM public.usage_events
    WHERE created_at >= (SELECT cover.rest_from FROM cover) AND created_at < (SELECT cover.rest_until FROM cover)
),

-- The accounts of these, if sums are kept for the window: their kept sums have to be corrected.
moved AS (
    SELECT DISTINCT account_id
    FROM beside
    WHERE (SELECT cover.window_id IS NOT NULL FROM cover)
),

-- By how much the kept count changes, or all accounts if none is kept or only some are asked for.
part AS NOT MATERIALIZED (
    SELECT account_id, event_count::bigint AS event_count, 1 AS kept_count
    FROM usage_sums.accounts
    WHERE window_id = (SELECT cover.window_id FROM cover)
        AND (:'search'::text <> '' OR account_id = ANY(ARRAY(SELECT moved.account_id FROM moved)))
    UNION ALL
    SELECT account_id, event_count::bigint AS event_count, 0 AS kept_count
    FROM usage_sums.days
    WHERE day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date AND day < (SELECT cover.day_until FROM cover)
    UNION ALL
    SELECT account_id, event_count, 0 AS kept_count
    FROM beside
),

-- Few accounts are found by an index, many by a hash of them. Without a search only the first part is planned.
spent AS (
    SELECT account_id, event_count, kept_count
    FROM part
    WHERE :'search'::text = ''
        OR ((SELECT count(*) <= 1000 FROM found) AND account_id = ANY(ARRAY(SELECT found.account_id FROM found)))
    UNION ALL
    SELECT account_id, event_count, kept_count
    FROM part
    WHERE :'search'::text <> '' AND (SELECT count(*) > 1000 FROM found)
        AND (account_id IN (SELECT found.account_id FROM found)) IS TRUE
)

SELECT
    coalesce(
        CASE :'search'::text
            WHEN '' THEN (SELECT cover.account_count FROM cover) + coalesce(sum(is_spender - kept_count), 0)
        END,
        coalesce(sum(is_spender), 0)
    )::bigint AS total_count
FROM (
    SELECT
        account_id,
        (sum(event_count) > 0)::integer AS is_spender,
        sum(kept_count) AS kept_count
    FROM spent
    GROUP BY account_id
) AS counted;
