SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_rollup_previous: credits spent and number of events of given accounts in the window before.
--
-- Parameters
--   :account_ids     uuid[]       the accounts, as {id,id}
--   :previous_since  timestamptz  start of the window before, inclusive
--   :previous_until  timestamptz  end of the window before, exclusive
--   :filters         jsonb        such as {"model": "gpt-5", "provider": ""}: only such events, here without a provider
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: account_id, previous_credits_deducted_cents, previous_event_count
-- Order:   account_id; no row for an account without events
-- psql -X -q -v ON_ERROR_STOP=1 -v account_ids={3c90c3cc-0d44-4b50-8888-8dd25736052a} -v previous_since=2026-10-01 \
--   -v previous_until=2026-11-01 -v filters='{}' -v credits_column=credits_deducted_cents \
--   -f credits_rollup_previous.sql
SELECT
    account_id,
    coalesce(sum(:"credits_column"), 0) AS previous_credits_deducted_cents,
    count(*) AS previous_event_count
FROM public.usage_events
WHERE account_id = ANY(:'account_ids'::uuid[])
    AND created_at >= :'previous_since'::timestamptz
    AND created_at < :'previous_until'::timestamptz
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
GROUP BY account_id
ORDER BY account_id ASC;
