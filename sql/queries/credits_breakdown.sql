SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_breakdown: credits, tokens and number of events per model, provider, source or agent type, one page.
--
-- Parameters
--   :by              text         model, provider, source or agent_type
--   :account_id      text         the account; empty for all accounts
--   :since           timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until           timestamptz  end of the window, exclusive; infinity for no upper bound
--   :filters         jsonb        such as {"model": "gpt-5", "provider": ""}: only such events, here without a provider
--   :limit           bigint       rows on this page; 9223372036854775807 for all
--   :offset          bigint       rows before this page
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: key, total_credits_deducted_cents, event_count, input_tokens, cached_input_tokens, output_tokens,
--   tool_call_count
-- Order:   most credits first; key by code point, null last, settles ties
-- psql -X -q -v ON_ERROR_STOP=1 -v by=model -v account_id= -v since=2026-11-01 -v until=infinity -v filters='{}' \
--   -v limit=20 -v offset=0 -v credits_column=credits_deducted_cents -f credits_breakdown.sql
WITH spend AS (
    SELECT
        -- a constant when it is planned, so only one of the columns is read
        CASE :'by'::text
            WHEN 'model' THEN model_id
            WHEN 'provider' THEN provider
            WHEN 'source' THEN source
            WHEN 'agent_type' THEN agent_type
            -- fails, with the value in the message
            ELSE (:'by'::text || ' is not model, provider, source or agent_type')::integer::text
        END COLLATE "C" AS key,
        :"credits_column" AS credits_deducted_cents,
        input_tokens, cached_input_tokens, output_tokens, tool_call_count
    FROM public.usage_events
    WHERE created_at >= :'since'::timestamptz AND created_at < :'until'::timestamptz
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
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
)

SELECT
    key,
    coalesce(sum(credits_deducted_cents), 0) AS total_credits_deducted_cents,
    count(*) AS event_count,
    coalesce(sum(input_tokens), 0) AS input_tokens,
    coalesce(sum(cached_input_tokens), 0) AS cached_input_tokens,
    coalesce(sum(output_tokens), 0) AS output_tokens,
    coalesce(sum(tool_call_count), 0) AS tool_call_count
FROM spend
GROUP BY key
ORDER BY total_credits_deducted_cents DESC, key ASC NULLS LAST
LIMIT :'limit'::bigint OFFSET :'offset'::bigint;
