SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_breakdown_compared: credits_breakdown with the credits and the number of events in the window before, from the sums.
-- Parameters, columns and order are those of ../credits_breakdown_compared.sql. usage_sums.cover() is in sql/dba/sums.sql.
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
),

part AS (
    SELECT
        kept.model_id, kept.provider, kept.source, kept.agent_type,
        kept.credits_deducted_cents, kept.event_count, kept.input_tokens,
        kept.cached_input_tokens, kept.output_tokens, kept.tool_call_count,
        cover.is_in_window
    FROM cover
    INNER JOIN usage_sums.keys AS kept
        ON kept.day >= (cover.since AT TIME ZONE 'UTC')::date AND kept.day < cover.day_until
    UNION ALL
    SELECT
        late.model_id, late.provider, late.source, late.agent_type,
        late.sign * coalesce(late.credits_deducted_cents, 0)::numeric AS credits_deducted_cents,
        late.sign AS event_count,
        late.sign * coalesce(late.input_tokens, 0)::numeric AS input_tokens,
        late.sign * coalesce(late.cached_input_tokens, 0)::numeric AS cached_input_tokens,
        late.sign * coalesce(late.output_tokens, 0)::numeric AS output_tokens,
        late.sign * coalesce(late.tool_call_count, 0)::numeric AS tool_call_count,
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
        cover.rest_sign * coalesce(sum(rest.input_tokens), 0)::numeric AS input_tokens,
        cover.rest_sign * coalesce(sum(rest.cached_input_tokens), 0)::numeric AS cached_input_tokens,
        cover.rest_sign * coalesce(sum(rest.output_tokens), 0)::numeric AS output_tokens,
        cover.rest_sign * coalesce(sum(rest.tool_call_count), 0)::numeric AS tool_call_count,
        cover.is_in_window
    FROM cover
    INNER JOIN public.usage_events AS rest
        ON rest.created_at >= cover.rest_from AND rest.created_at < cover.rest_until
    WHERE :'account_id'::text = '' OR rest.account_id = nullif(:'account_id'::text, '')::uuid
    GROUP BY
        rest.model_id COLLATE "C", rest.provider COLLATE "C", rest.source COLLATE "C", rest.agent_type COLLATE "C",
        cover.rest_sign, cover.is_in_window
),

spend AS (
    SELECT
        CASE :'by'::text
            WHEN 'model' THEN model_id
            WHEN 'provider' THEN provider
            WHEN 'source' THEN source
            WHEN 'agent_type' THEN agent_type
            -- fails, with the value in the message
            ELSE (:'by'::text || ' is not model, provider, source or agent_type')::integer::text
        END COLLATE "C" AS key,
        credits_deducted_cents, event_count, input_tokens, cached_input_tokens, output_tokens, tool_call_count,
        is_in_window
    FROM part
    -- fails for another key of the filters, with it in the message
    WHERE replace((:'filters'::jsonb - '{model,provider,source,agent_type}'::text[])::text, '{}', 'true')::boolean
        AND coalesce(coalesce(model_id, '') COLLATE "C" = :'filters'::jsonb ->> 'model', true)
        AND coalesce(coalesce(provider, '') COLLATE "C" = :'filters'::jsonb ->> 'provider', true)
        AND coalesce(coalesce(source, '') COLLATE "C" = :'filters'::jsonb ->> 'source', true)
        AND coalesce(coalesce(agent_type, '') COLLATE "C" = :'filters'::jsonb ->> 'agent_type', true)
)

SELECT
    key,
    coalesce(sum(credits_deducted_cents) FILTER (WHERE is_in_window), 0) AS total_credits_deducted_cents,
    coalesce(sum(event_count) FILTER (WHERE is_in_window), 0)::bigint AS event_count,
    coalesce(sum(input_tokens) FILTER (WHERE is_in_window), 0) AS input_tokens,
    coalesce(sum(cached_input_tokens) FILTER (WHERE is_in_window), 0) AS cached_input_tokens,
    coalesce(sum(output_tokens) FILTER (WHERE is_in_window), 0) AS output_tokens,
    coalesce(sum(tool_call_count) FILTER (WHERE is_in_window), 0) AS tool_call_count,
    coalesce(sum(credits_deducted_cents) FILTER (WHERE NOT is_in_window), 0) AS previous_credits_deducted_cents,
    coalesce(sum(event_count) FILTER (WHERE NOT is_in_window), 0)::bigint AS previous_event_count
FROM spend
GROUP BY key
-- a key of the window before alone is not listed
HAVING sum(event_count) FILTER (WHERE is_in_window) > 0
ORDER BY total_credits_deducted_cents DESC, key ASC NULLS LAST
LIMIT :'limit'::bigint OFFSET :'offset'::bigint;
