SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_rollup: credits spent and number of events per account in a window, one page.
--
-- Parameters
--   :search          text         part of the name or of an address, or the beginning of an id; empty for all
--   :since           timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until           timestamptz  end of the window, exclusive; infinity for no upper bound
--   :filters         jsonb        such as {"model": "gpt-5", "provider": ""}: only such events, here without a provider
--   :limit           bigint       rows on this page; 9223372036854775807 for all
--   :offset          bigint       rows before this page
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: account_id, account_name, account_email, total_credits_deducted_cents, event_count
-- Order:   most credits first; account_id settles ties, so pages never overlap
-- psql -X -q -v ON_ERROR_STOP=1 -v search= -v since=2026-11-01 -v until=infinity -v filters='{}' -v limit=20 \
--   -v offset=0 -v credits_column=credits_deducted_cents -f credits_rollup.sql
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
    SELECT account_id, :"credits_column" AS credits_deducted_cents
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
    SELECT account_id, credits_deducted_cents
    FROM event
    WHERE :'search'::text = ''
        OR ((SELECT count(*) <= 1000 FROM found) AND account_id = ANY(ARRAY(SELECT found.account_id FROM found)))
    UNION ALL
    SELECT account_id, credits_deducted_cents
    FROM event
    WHERE :'search'::text <> '' AND (SELECT count(*) > 1000 FROM found)
        AND (account_id IN (SELECT found.account_id FROM found)) IS TRUE
),

page AS (
    SELECT
        account_id,
        coalesce(sum(credits_deducted_cents), 0) AS total_credits_deducted_cents,
        count(*) AS event_count
    FROM spent
    GROUP BY account_id
    ORDER BY total_credits_deducted_cents DESC, account_id ASC
    LIMIT :'limit'::bigint OFFSET :'offset'::bigint
),

-- With = ANY(ARRAY(...)) the planner uses the indexes even if it expects many accounts. Without a limit, read all once.
identity AS MATERIALIZED (
    SELECT accounts.id AS account_id, accounts.name AS account_name, address.email AS account_email
    FROM public.accounts
    LEFT JOIN (
        SELECT DISTINCT ON (account_id) account_id, email
        FROM public.account_emails
        WHERE email IS NOT NULL
            AND (:'limit'::bigint = 9223372036854775807 OR account_id = ANY(ARRAY(SELECT page.account_id FROM page)))
        ORDER BY account_id ASC, updated_at DESC, email COLLATE "C" ASC
    ) AS address ON address.account_id = accounts.id
    WHERE :'limit'::bigint = 9223372036854775807 OR accounts.id = ANY(ARRAY(SELECT page.account_id FROM page))
)

SELECT
    page.account_id, identity.account_name, identity.account_email, page.total_credits_deducted_cents, page.event_count
FROM page
LEFT JOIN identity ON identity.account_id = page.account_id
ORDER BY page.total_credits_deducted_cents DESC, page.account_id ASC;
