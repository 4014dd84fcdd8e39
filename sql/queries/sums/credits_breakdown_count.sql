SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_breakdown_count: number of keys in credits_breakdown, and what their columns of credits and events add up to, from the sums.
-- Parameters, columns and order are those of ../credits_breakdown_count.sql. usage_sums.cover() is in sql/dba/sums.sql.
WITH cover AS (
    SELECT
        :'since'::timestamptz AS since, day_until, stop, rest_from, rest_until, rest_sign,
        true AS is_in_window
    FROM usage_sums.cover(
            :'since'::timestamptz,
            :'until'::timestamptz,
            -- the sums by key are of all accounts together
            CASE :'account_id'::text WHEN '' THEN 'days' ELSE 'events' END::text
        )
    UNION ALL
    SELECT
        :'previous_since'::timestamptz AS since, day_until, stop, rest_from, rest_until, rest_sign,
        false AS is_in_window
    FROM usage_sums.cover(
            :'previous_since'::timestamptz,
            :'previous_until'::timestamptz,
            -- the sums by key are of all accounts together
            CASE :'account_id'::text WHEN '' THEN 'days' ELSE 'events' END::text
        )
    WHERE :'totals'::boolean
),

part AS (
    SELECT
        kept.model_id, kept.provider, kept.source, kept.agent_type,
        kept.credits_deducted_cents, kept.event_count,
        cover.is_in_window
    FROM cover
    INNER JOIN usage_sums.keys AS kept
        ON kept.day >= (cover.since AT TIME ZONE 'UTC')::date AND kept.day < cover.day_until
    UNION ALL
    SELECT
        late.model_id, late.provider, late.source, late.agent_type,
        late.sign * coalesce(late.credits_deducted_cents, 0)::numeric AS credits_deducted_cents,
        late.sign AS event_count,
        cover.is_in_window
    FROM cover
    INNER JOIN usage_sums.late ON late.created_at >= cover.since AND late.created_at < cover.stop
    -- not at all where the sums are not used, however long the ledger is
    WHERE (SELECT bool_or(edges.stop > edges.since) FROM cover AS edges)
    UNION ALL
    SELECT
        rest.model_id COLLATE "C" AS model_id,
        rest.provider COLLATE "C" AS provider,
        rest.source COLLATE "C" AS source,
        rest.agent_type COLLATE "C" AS agent_type,
        cover.rest_sign * coalesce(sum(rest.:"credits_column"), 0)::numeric AS credits_deducted_cents,
        cover.rest_sign * count(*) AS event_count,
        cover.is_in_window
    FROM cover
    INNER JOIN public.usage_events AS rest
        ON rest.created_at >= cover.rest_from AND rest.created_at < cover.rest_until
    WHERE :'account_id'::text = '' OR rest.account_id = nullif(:'account_id'::text, '')::uuid
    GROUP BY
        rest.model_id COLLATE "C", rest.provider COLLATE "C", rest.source COLLATE "C", rest.agent_type COLLATE "C",
        cover.rest_sign, cover.is_in_window
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
        credits_deducted_cents, event_count, is_in_window
    FROM part
    -- fails for another key of the filters, with it in the message
    WHERE replace((:'filters'::jsonb - '{model,provider,source,agent_type}'::text[])::text, '{}', 'true')::boolean
        AND coalesce(coalesce(model_id, '') COLLATE "C" = :'filters'::jsonb ->> 'model', true)
        AND coalesce(coalesce(provider, '') COLLATE "C" = :'filters'::jsonb ->> 'provider', true)
        AND coalesce(coalesce(source, '') COLLATE "C" = :'filters'::jsonb ->> 'source', true)
        AND coalesce(coalesce(agent_type, '') COLLATE "C" = :'filters'::jsonb ->> 'agent_type', true)
),

spend AS (
    SELECT
        key,
        sum(credits_deducted_cents) FILTER (WHERE is_in_window) AS total_credits_deducted_cents,
        sum(event_count) FILTER (WHERE is_in_window) AS event_count,
        sum(credits_deducted_cents) FILTER (WHERE NOT is_in_window) AS previous_credits_deducted_cents,
        sum(event_count) FILTER (WHERE NOT is_in_window) AS previous_event_count
    FROM key
    GROUP BY key
    HAVING sum(event_count) FILTER (WHERE is_in_window) > 0
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
