SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_breakdown_count: number of keys in credits_breakdown, and what their columns of credits and events add up to.
--
-- Parameters
--   :by              text         model, provider, source or agent_type
--   :account_id      text         the account; empty for all accounts
--   :since           timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until           timestamptz  end of the window, exclusive; infinity for no upper bound
--   :previous_since  timestamptz  start of the window before, inclusive
--   :previous_until  timestamptz  end of the window before, exclusive; not after since
--   :filters         jsonb        such as {"model": "gpt-5", "provider": ""}: only such events, here without a provider
--   :totals          boolean      whether to add up the columns too
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: total_count, total_credits_deducted_cents, event_count, previous_credits_deducted_cents,
--   previous_event_count
-- Order:   one row; null is a key too; null for what is not added up
-- psql -X -q -v ON_ERROR_STOP=1 -v by=model -v account_id= -v since=2026-11-01 -v until=infinity \
--   -v previous_since=2026-10-01 -v previous_until=2026-11-01 -v filters='{}' -v totals=true \
--   -v credits_column=credits_deducted_cents -f credits_breakdown_count.sql
WITH event AS NOT MATERIALIZED (
    SELECT
        model_id, provider, source, agent_type,
        :"credits_column" AS credits_deducted_cents, true AS is_in_window
    FROM public.usage_events
    WHERE created_at >= :'since'::timestamptz AND created_at < :'until'::timestamptz
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
    UNION ALL
    SELECT
        model_id, provider, source, agent_type,
        :"credits_column" AS credits_deducted_cents, false AS is_in_window
    FROM public.usage_events
    WHERE created_at >= :'previous_since'::timestamptz AND created_at < :'previous_until'::timestamptz
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
),

key AS (
    SELECT
        CASE :'by'::text
            WHEN 'model' THEN model_id
            WHEN 'provider' THEN provider
            WHEN 'source' THEN source
            WHEN 'agent_type' THEN agent_type
            -- fails, with the value in the message
            ELSE (:'by'::text || ' is not model, provider, source or agent_type')::integer::text
        END COLLATE "C" AS key,
        credits_deducted_cents, is_in_window
    FROM event
    WHERE (:'totals'::boolean OR is_in_window)
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

spend AS (
    -- GROUP BY, because count(DISTINCT key) sorts all events, is not parallel and leaves null out
    SELECT
        key,
        sum(credits_deducted_cents) FILTER (WHERE is_in_window) AS total_credits_deducted_cents,
        count(*) FILTER (WHERE is_in_window) AS event_count,
        sum(credits_deducted_cents) FILTER (WHERE NOT is_in_window) AS previous_credits_deducted_cents,
        count(*) FILTER (WHERE NOT is_in_window) AS previous_event_count
    FROM key
    GROUP BY key
    HAVING bool_or(is_in_window)
)

SELECT
    count(*) AS total_count,
    -- constants when it is planned, unless they are asked for
    CASE WHEN :'totals'::boolean THEN coalesce(sum(total_credits_deducted_cents), 0) END
        AS total_credits_deducted_cents,
    CASE WHEN :'totals'::boolean THEN coalesce(sum(event_count), 0)::bigint END AS event_count,
    CASE WHEN :'totals'::boolean THEN coalesce(sum(previous_credits_deducted_cents), 0) END
        AS previous_credits_deducted_cents,
    CASE WHEN :'totals'::boolean THEN coalesce(sum(previous_event_count), 0)::bigint END AS previous_event_count
FROM spend;
