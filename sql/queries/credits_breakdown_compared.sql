-- credits_breakdown_compared: credits_breakdown with the credits and the number of events in the window before.
--
-- Parameters
--   :by              text         model, provider, source or agent_type
--   :account_id      text         the account; empty for all accounts
--   :since           timestamptz  start of the window, inclusive
--   :until           timestamptz  end of the window, exclusive; infinity for none
--   :previous_since  timestamptz  start of the window before, inclusive
--   :previous_until  timestamptz  end of the window before, exclusive; not after since
--   :limit           bigint       rows on this page; 9223372036854775807 for all
--   :offset          bigint       rows before this page
-- Columns: key, total_credits_deducted_cents, event_count, input_tokens, cached_input_tokens, output_tokens,
--   tool_call_count, previous_credits_deducted_cents, previous_event_count
-- Order:   most credits first; key by code point, null last, settles ties
-- psql -X -v ON_ERROR_STOP=1 -v by=model -v account_id= -v since=2026-11-01 -v until=infinity
--   -v previous_since=2026-10-01 -v previous_until=2026-11-01 -v limit=20 -v offset=0 -f credits_breakdown_compared.sql
WITH spend AS (
    SELECT
        -- a constant when it is planned, so only one of the columns is read
        CASE :'by'::text
            WHEN 'model' THEN model_id
            WHEN 'provider' THEN provider
            WHEN 'source' THEN source
            WHEN 'agent_type' THEN agent_type
        END COLLATE "C" AS key,
        created_at >= :'since'::timestamptz AS is_in_window,
        credits_deducted_cents,
        input_tokens,
        cached_input_tokens,
        output_tokens,
        tool_call_count
    FROM public.usage_events
    -- both windows in one scan
    WHERE created_at >= :'previous_since'::timestamptz
        AND (created_at < :'until'::timestamptz OR :'until'::timestamptz = 'infinity')
        AND (created_at >= :'since'::timestamptz OR created_at < :'previous_until'::timestamptz)
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
)

SELECT
    key,
    -- sum(bigint) returns numeric
    sum(credits_deducted_cents) FILTER (WHERE is_in_window)::bigint AS total_credits_deducted_cents,
    count(*) FILTER (WHERE is_in_window) AS event_count,
    sum(input_tokens) FILTER (WHERE is_in_window)::bigint AS input_tokens,
    sum(cached_input_tokens) FILTER (WHERE is_in_window)::bigint AS cached_input_tokens,
    sum(output_tokens) FILTER (WHERE is_in_window)::bigint AS output_tokens,
    sum(tool_call_count) FILTER (WHERE is_in_window)::bigint AS tool_call_count,
    coalesce(sum(credits_deducted_cents) FILTER (WHERE NOT is_in_window), 0)::bigint AS previous_credits_deducted_cents,
    count(*) FILTER (WHERE NOT is_in_window) AS previous_event_count
FROM spend
GROUP BY key
-- a key of the window before alone is not listed
HAVING bool_or(is_in_window)
ORDER BY total_credits_deducted_cents DESC, key ASC NULLS LAST
LIMIT :'limit'::bigint OFFSET :'offset'::bigint;
