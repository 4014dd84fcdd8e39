SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_breakdown_count: number of models, providers, sources or agent types with an event in a window.
--
-- Parameters
--   :by          text         model, provider, source or agent_type
--   :account_id  text         the account; empty for all accounts
--   :since       timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until       timestamptz  end of the window, exclusive; infinity for no upper bound
-- Columns: total_count
-- Order:   one row; null is a key too
-- psql -X -q -v ON_ERROR_STOP=1 -v by=model -v account_id= -v since=2026-11-01 -v until=infinity \
--   -f credits_breakdown_count.sql
WITH spend AS (
    SELECT
        CASE :'by'::text
            WHEN 'model' THEN model_id
            WHEN 'provider' THEN provider
            WHEN 'source' THEN source
            WHEN 'agent_type' THEN agent_type
            -- fails, with the value in the message
            ELSE (:'by'::text || ' is not model, provider, source or agent_type')::integer::text
        END COLLATE "C" AS key
    FROM public.usage_events
    WHERE created_at >= :'since'::timestamptz
        AND created_at < :'until'::timestamptz
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
)

SELECT count(*) AS total_count
FROM (
    -- GROUP BY, because count(DISTINCT key) sorts all events, is not parallel and leaves null out
    SELECT key
    FROM spend
    GROUP BY key
) AS keys;
