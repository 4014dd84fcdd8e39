SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_changes: by how much the credits of each account differ from those in the window before, one page.
--
-- Parameters
--   :search          text         part of the name or of an address, or the beginning of an id; empty for all
--   :since           timestamptz  start of the window, inclusive
--   :until           timestamptz  end of the window, exclusive; infinity for no upper bound
--   :previous_since  timestamptz  start of the window before, inclusive
--   :previous_until  timestamptz  end of the window before, exclusive; not after since
--   :filters         jsonb        such as {"model": "gpt-5", "provider": ""}: only such events, here without a provider
--   :only            text         accounts that started or stopped, or whose credits went up or down; empty for all
--   :limit           bigint       rows on this page; 9223372036854775807 for all
--   :offset          bigint       rows before this page
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: account_id, account_name, account_email, total_credits_deducted_cents, event_count,
--   previous_credits_deducted_cents, previous_event_count, change_credits_deducted_cents
-- Order:   largest change first, up or down; account_id settles ties, so pages never overlap
-- psql -X -q -v ON_ERROR_STOP=1 -v search= -v since=2026-11-01 -v until=infinity -v previous_since=2026-10-01 \
--   -v previous_until=2026-11-01 -v filters='{}' -v only= -v limit=20 -v offset=0 \
--   -v credits_column=credits_deducted_cents -f credits_changes.sql
WITH found AS MATERIALIZED (
    SELECT id AS account_id
    FROM public.accounts
    WHERE lower(name COLLATE "default")
        LIKE '%' || replace(replace(replace(lower(:'search'::text), '!', '!!'), '%', '!%'), '_', '!_') || '%' ESCAPE '!'
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
    SELECT
        coalesce(model_id, '') COLLATE "C" AS model, coalesce(provider, '') COLLATE "C" AS provider,
        coalesce(source, '') COLLATE "C" AS source, coalesce(agent_type, '') COLLATE "C" AS agent_type,
        account_id, :"credits_column" AS credits_deducted_cents, true AS is_in_window
    FROM public.usage_events
    WHERE created_at >= :'since'::timestamptz AND created_at < :'until'::timestamptz
    UNION ALL
    SELECT
        coalesce(model_id, '') COLLATE "C" AS model, coalesce(provider, '') COLLATE "C" AS provider,
        coalesce(source, '') COLLATE "C" AS source, coalesce(agent_type, '') COLLATE "C" AS agent_type,
        account_id, :"credits_column" AS credits_deducted_cents, false AS is_in_window
    FROM public.usage_events
    WHERE created_at >= :'previous_since'::timestamptz AND created_at < :'previous_until'::timestamptz
),

filtered AS NOT MATERIALIZED (
    SELECT account_id, credits_deducted_cents, is_in_window
    FROM event
    WHERE replace((:'filters'::jsonb - '{model,provider,source,agent_type}'::text[])::text, '{}', 'true')::boolean
        AND (:'filters'::jsonb ->> 'model' IS NULL OR model = :'filters'::jsonb ->> 'model')
        AND (:'filters'::jsonb ->> 'provider' IS NULL OR provider = :'filters'::jsonb ->> 'provider')
        AND (:'filters'::jsonb ->> 'source' IS NULL OR source = :'filters'::jsonb ->> 'source')
        AND (:'filters'::jsonb ->> 'agent_type' IS NULL OR agent_type = :'filters'::jsonb ->> 'agent_type')
),

spent AS (
    SELECT account_id, credits_deducted_cents, is_in_window
    FROM filtered
    WHERE :'search'::text = ''
        OR ((SELECT count(*) <= 1000 FROM found) AND account_id = ANY(ARRAY(SELECT found.account_id FROM found)))
    UNION ALL
    SELECT account_id, credits_deducted_cents, is_in_window
    FROM filtered
    WHERE :'search'::text <> '' AND (SELECT count(*) > 1000 FROM found)
        AND (account_id IN (SELECT found.account_id FROM found)) IS TRUE
),

spend AS (
    SELECT
        account_id,
        coalesce(sum(credits_deducted_cents) FILTER (WHERE is_in_window), 0) AS total_credits_deducted_cents,
        count(*) FILTER (WHERE is_in_window) AS event_count,
        coalesce(sum(credits_deducted_cents) FILTER (WHERE NOT is_in_window), 0) AS previous_credits_deducted_cents,
        count(*) FILTER (WHERE NOT is_in_window) AS previous_event_count
    FROM spent
    GROUP BY account_id
),

page AS (
    SELECT account_id, total_credits_deducted_cents, event_count, previous_credits_deducted_cents, previous_event_count
    FROM spend
    WHERE CASE :'only'::text
            WHEN '' THEN true
            WHEN 'started' THEN previous_event_count = 0
            WHEN 'stopped' THEN event_count = 0
            WHEN 'up' THEN total_credits_deducted_cents > previous_credits_deducted_cents
            WHEN 'down' THEN total_credits_deducted_cents < previous_credits_deducted_cents
            ELSE (:'only'::text || ' is not started, stopped, up or down')::boolean
        END
    ORDER BY abs(total_credits_deducted_cents - previous_credits_deducted_cents) DESC, account_id ASC
    LIMIT :'limit'::bigint OFFSET :'offset'::bigint
),

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
    page.account_id, identity.account_name, identity.account_email, page.total_credits_deducted_cents, page.event_count,
    page.previous_credits_deducted_cents, page.previous_event_count,
    page.total_credits_deducted_cents - page.previous_credits_deducted_cents AS change_credits_deducted_cents
FROM page
LEFT JOIN identity ON identity.account_id = page.account_id
ORDER BY abs(page.total_credits_deducted_cents - page.previous_credits_deducted_cents) DESC, page.account_id ASC;
