SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_events: usage events of one account in a window, one page.
--
-- Parameters
--   :account_id      uuid         the account
--   :since           timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until           timestamptz  end of the window, exclusive; infinity for no upper bound
--   :filters         jsonb        such as {"model": "gpt-5", "provider": ""}: only such events, here without a provider
--   :sort            text         created_at, or credits for most credits first
--   :limit           bigint       rows on this page; 9223372036854775807 for all
--   :offset          bigint       rows before this page
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: id, created_at, source, agent_type, provider, model_id, input_tokens, cached_input_tokens, output_tokens,
--   tool_call_count, credits_deducted_cents
-- Order:   with credits most credits first, then as with created_at: newest first; id by code point settles ties, so
--   pages never overlap
-- psql -X -q -v ON_ERROR_STOP=1 -v account_id=3c90c3cc-0d44-4b50-8888-8dd25736052a -v since=2026-11-01 \
--   -v until=infinity -v filters='{}' -v sort=created_at -v limit=20 -v offset=0 \
--   -v credits_column=credits_deducted_cents -f credits_events.sql
SELECT
    id,
    created_at,
    source,
    agent_type,
    provider,
    model_id,
    coalesce(input_tokens, 0) AS input_tokens,
    coalesce(cached_input_tokens, 0) AS cached_input_tokens,
    coalesce(output_tokens, 0) AS output_tokens,
    coalesce(tool_call_count, 0) AS tool_call_count,
    coalesce(:"credits_column", 0) AS credits_deducted_cents
FROM public.usage_events
WHERE account_id = :'account_id'::uuid
    AND created_at >= :'since'::timestamptz
    AND created_at < :'until'::timestamptz
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
ORDER BY
    -- With created_at a constant when it is planned, so an index gives the order.
    CASE :'sort'::text
        WHEN 'created_at' THEN NULL
        WHEN 'credits' THEN coalesce(:"credits_column", 0)
        -- fails, with the value in the message
        ELSE (:'sort'::text || ' is not created_at or credits')::integer
    END DESC,
    created_at DESC,
    id COLLATE "C" DESC
LIMIT :'limit'::bigint OFFSET :'offset'::bigint;
