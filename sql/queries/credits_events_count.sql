SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_events_count: number of usage events of one account in a window.
--
-- Parameters
--   :account_id  uuid         the account
--   :since       timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until       timestamptz  end of the window, exclusive; infinity for no upper bound
--   :filters     jsonb        such as {"model": "gpt-5", "provider": ""}: only such events, here without a provider
-- Columns: total_count
-- Order:   one row
-- psql -X -q -v ON_ERROR_STOP=1 -v account_id=3c90c3cc-0d44-4b50-8888-8dd25736052a -v since=2026-11-01 \
--   -v until=infinity -v filters='{}' -f credits_events_count.sql
SELECT count(*) AS total_count
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
    AND replace((:'filters'::jsonb - '{model,provider,source,agent_type}'::text[])::text, '{}', 'true')::boolean;
