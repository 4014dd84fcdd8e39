-- credits_breakdown: credits, tokens and number of events per model, provider, source or agent type, one page.
--
-- Parameters
--   :by          text         model, provider, source or agent_type
--   :account_id  text         the account; empty for all accounts
--   :since       timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until       timestamptz  end of the window, exclusive; infinity for none
--   :limit       bigint       rows on this page; 9223372036854775807 for all
--   :offset      bigint       rows before this page
-- Columns: key, total_credits_deducted_cents, event_count, input_tokens, cached_input_tokens, output_tokens,
--   tool_call_count
-- Order:   most credits first; key by code point, null last, settles ties
-- psql -X -v ON_ERROR_STOP=1 -v by=model -v account_id= -v since=2026-11-01 -v until=infinity -v limit=20 -v offset=0
--   -f credits_breakdown.sql
WITH spend AS (
    SELECT
        -- a constant when it is planned, so only one of the columns is read
        CASE :'by'::text
            WHEN 'model' THEN model_id
            WHEN 'provider' THEN provider
            WHEN 'source' THEN source
            WHEN 'agent_type' THEN agent_type
        END COLLATE "C" AS key,
        credits_deducted_cents,
        input_tokens,
        cached_input_tokens,
        output_tokens,
        tool_call_count
    FROM public.usage_events
    WHERE created_at >= :'since'::timestamptz
        -- no end of the window: events dated infinity count too
        AND (created_at < :'until'::timestamptz OR :'until'::timestamptz = 'infinity')
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
)

SELECT
    key,
    -- sum(bigint) returns numeric
    sum(credits_deducted_cents)::bigint AS total_credits_deducted_cents,
    count(*) AS event_count,
    sum(input_tokens)::bigint AS input_tokens,
    sum(cached_input_tokens)::bigint AS cached_input_tokens,
    sum(output_tokens)::bigint AS output_tokens,
    sum(tool_call_count)::bigint AS tool_call_count
FROM spend
GROUP BY key
ORDER BY total_credits_deducted_cents DESC, key ASC NULLS LAST
LIMIT :'limit'::bigint OFFSET :'offset'::bigint;
