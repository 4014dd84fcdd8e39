SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_rollup_count: number of accounts with an event in a window.
--
-- Parameters
--   :search   text         part of the name or of an address, or the beginning of an id; empty for all
--   :since    timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until    timestamptz  end of the window, exclusive; infinity for no upper bound
--   :filters  jsonb        such as {"model": "gpt-5", "provider": ""}: only such events, here without a provider
-- Columns: total_count
-- Order:   one row
-- psql -X -q -v ON_ERROR_STOP=1 -v search= -v since=2026-11-01 -v until=infinity -v filters='{}' \
--   -f credits_rollup_count.sql
WITH found AS MATERIALIZED (
    -- lower() on both sides and LIKE, so that an index of pg_trgm can serve it: see sql/dba/indexes.sql. No backslash,
    -- whose meaning is a setting.
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

event AS NOT MATERIALIZED (
    SELECT account_id
    FROM public.usage_events
    WHERE created_at >= :'since'::timestamptz AND created_at < :'until'::timestamptz
        -- constants when it is planned, unless they are asked for
        AND (
            :'filters'::jsonb ->> 'model' IS NULL
            OR coalesce(model_id, '') COLLATE "C" = :'filters'::jsonb ->> 'model'
        )
        AND (
            :'filters'::jsonb ->> 'provider' IS NULL
            OR coalesce(provider, '') COLLATE "C" = :'filters'::jsonb ->> 'provider'
        )
        AND (
            :'filters'::jsonb ->> 'source' IS NULL
            OR coalesce(source, '') COLLATE "C" = :'filters'::jsonb ->> 'source'
        )
        AND (
            :'filters'::jsonb ->> 'agent_type' IS NULL
            OR coalesce(agent_type, '') COLLATE "C" = :'filters'::jsonb ->> 'agent_type'
        )
        -- fails for any other key, with it in the message
        AND replace((:'filters'::jsonb - '{model,provider,source,agent_type}'::text[])::text, '{}', 'true')::boolean
),

-- Few accounts are found by an index, many by a hash of them. Without a search only the first part is planned.
spent AS (
    SELECT account_id
    FROM event
    WHERE :'search'::text = ''
        OR ((SELECT count(*) <= 1000 FROM found) AND account_id = ANY(ARRAY(SELECT found.account_id FROM found)))
    UNION ALL
    SELECT account_id
    FROM event
    WHERE :'search'::text <> '' AND (SELECT count(*) > 1000 FROM found)
        AND (account_id IN (SELECT found.account_id FROM found)) IS TRUE
)

SELECT count(*) AS total_count
FROM (
    -- GROUP BY, because count(DISTINCT account_id) sorts all events and is not parallel
    SELECT account_id
    FROM spent
    GROUP BY account_id
) AS spenders;
