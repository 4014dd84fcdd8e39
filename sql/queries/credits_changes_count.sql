SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_changes_count: number of accounts in credits_changes, and what their columns add up to.
--
-- Parameters
--   :search          text         part of the name or of an address, or the beginning of an id; empty for all
--   :since           timestamptz  start of the window, inclusive
--   :until           timestamptz  end of the window, exclusive; infinity for no upper bound
--   :previous_since  timestamptz  start of the window before, inclusive
--   :previous_until  timestamptz  end of the window before, exclusive; not after since
--   :filters         jsonb        such as {"model": "gpt-5", "provider": ""}: only such events, here without a provider
--   :only            text         as in credits_changes, or spending: those with an event in the window
--   :totals          boolean      whether to add up the columns too
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: total_count, total_credits_deducted_cents, event_count, previous_credits_deducted_cents,
--   previous_event_count, change_credits_deducted_cents
-- Order:   one row; null for what is not added up
-- psql -X -q -v ON_ERROR_STOP=1 -v search= -v since=2026-11-01 -v until=infinity -v previous_since=2026-10-01 \
--   -v previous_until=2026-11-01 -v filters='{}' -v only= -v totals=true -v credits_column=credits_deducted_cents \
--   -f credits_changes_count.sql
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
    -- fails for another key of the filters, with it in the message
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
)

SELECT
    count(*) AS total_count,
    -- constants when it is planned, unless they are asked for
    CASE WHEN :'totals'::boolean THEN coalesce(sum(total_credits_deducted_cents), 0) END
        AS total_credits_deducted_cents,
    CASE WHEN :'totals'::boolean THEN coalesce(sum(event_count), 0)::bigint END AS event_count,
    CASE WHEN :'totals'::boolean THEN coalesce(sum(previous_credits_deducted_cents), 0) END
        AS previous_credits_deducted_cents,
    CASE WHEN :'totals'::boolean THEN coalesce(sum(previous_event_count), 0)::bigint END AS previous_event_count,
    CASE
        WHEN :'totals'::boolean
            THEN coalesce(sum(total_credits_deducted_cents - previous_credits_deducted_cents), 0)
    END AS change_credits_deducted_cents
FROM spend
WHERE
    CASE :'only'::text
        WHEN '' THEN true
        WHEN 'spending' THEN event_count > 0
        WHEN 'started' THEN previous_event_count = 0
        WHEN 'stopped' THEN event_count = 0
        WHEN 'up' THEN total_credits_deducted_cents > previous_credits_deducted_cents
        WHEN 'down' THEN total_credits_deducted_cents < previous_credits_deducted_cents
        -- fails, with the value in the message
        ELSE (:'only'::text || ' is not started, stopped, up or down')::boolean
    END;
