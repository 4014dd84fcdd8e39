SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_breakdown_compared: credits_breakdown with the credits and the number of events in the window before.
--
-- Parameters
--   :by              text         model, provider, source or agent_type
--   :account_id      text         the account; empty for all accounts
--   :since           timestamptz  start of the window, inclusive
--   :until           timestamptz  end of the window, exclusive; infinity for no upper bound
--   :previous_since  timestamptz  start of the window before, inclusive
--   :previous_until  timestamptz  end of the window before, exclusive; not after since
--   :limit           bigint       rows on this page; 9223372036854775807 for all
--   :offset          bigint       rows before this page
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: key, total_credits_deducted_cents, event_count, input_tokens, cached_input_tokens, output_tokens,
--   tool_call_count, previous_credits_deducted_cents, previous_event_count
-- Order:   most credits first; key by code point, null last, settles ties
-- psql -X -q -v ON_ERROR_STOP=1 -v by=model -v account_id= -v since=2026-11-01 -v until=infinity \
--   -v previous_since=2026-10-01 -v previous_until=2026-11-01 -v limit=20 -v offset=0 \
--   -v credits_column=credits_deducted_cents -f sums/credits_breakdown_compared.sql
--
-- usage_sums.cover(), which sql/dba/sums.sql defines, says what of the window the sums cover.
WITH cover AS (
    SELECT
        day_until,
        stop,
        rest_from,
        rest_until,
        rest_sign
    FROM usage_sums.cover(
            :'since'::timestamptz,
            :'until'::timestamptz,
            -- the sums by key are of all accounts together
            CASE :'account_id'::text WHEN '' THEN 'days' ELSE 'events' END::text
        )
),

previous AS (
    SELECT
        day_until,
        stop,
        rest_from,
        rest_until,
        rest_sign
    FROM usage_sums.cover(
            :'previous_since'::timestamptz,
            :'previous_until'::timestamptz,
            -- the sums by key are of all accounts together
            CASE :'account_id'::text WHEN '' THEN 'days' ELSE 'events' END::text
        )
),

part AS (
    SELECT
        model_id,
        provider,
        source,
        agent_type,
        credits_deducted_cents,
        event_count,
        input_tokens,
        cached_input_tokens,
        output_tokens,
        tool_call_count,
        true AS is_in_window
    FROM usage_sums.keys
    WHERE day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT cover.day_until FROM cover)
    UNION ALL
    SELECT
        model_id,
        provider,
        source,
        agent_type,
        sign * coalesce(credits_deducted_cents, 0)::numeric AS credits_deducted_cents,
        sign AS event_count,
        sign * coalesce(input_tokens, 0)::numeric AS input_tokens,
        sign * coalesce(cached_input_tokens, 0)::numeric AS cached_input_tokens,
        sign * coalesce(output_tokens, 0)::numeric AS output_tokens,
        sign * coalesce(tool_call_count, 0)::numeric AS tool_call_count,
        true AS is_in_window
    FROM usage_sums.late
    WHERE (SELECT cover.stop > :'since'::timestamptz FROM cover)
        AND created_at >= :'since'::timestamptz
        AND created_at < (SELECT cover.stop FROM cover)
    UNION ALL
    SELECT
        model_id COLLATE "C" AS model_id,
        provider COLLATE "C" AS provider,
        source COLLATE "C" AS source,
        agent_type COLLATE "C" AS agent_type,
        (SELECT cover.rest_sign FROM cover) * coalesce(sum(:"credits_column"), 0)::numeric AS credits_deducted_cents,
        (SELECT cover.rest_sign FROM cover) * count(*) AS event_count,
        (SELECT cover.rest_sign FROM cover) * coalesce(sum(input_tokens), 0)::numeric AS input_tokens,
        (SELECT cover.rest_sign FROM cover) * coalesce(sum(cached_input_tokens), 0)::numeric AS cached_input_tokens,
        (SELECT cover.rest_sign FROM cover) * coalesce(sum(output_tokens), 0)::numeric AS output_tokens,
        (SELECT cover.rest_sign FROM cover) * coalesce(sum(tool_call_count), 0)::numeric AS tool_call_count,
        true AS is_in_window
    FROM public.usage_events
    WHERE created_at >= (SELECT cover.rest_from FROM cover)
        AND created_at < (SELECT cover.rest_until FROM cover)
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
    GROUP BY model_id COLLATE "C", provider COLLATE "C", source COLLATE "C", agent_type COLLATE "C"
    UNION ALL
    SELECT
        model_id,
        provider,
        source,
        agent_type,
        credits_deducted_cents,
        event_count,
        input_tokens,
        cached_input_tokens,
        output_tokens,
        tool_call_count,
        false AS is_in_window
    FROM usage_sums.keys
    WHERE day >= (:'previous_since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT previous.day_until FROM previous)
    UNION ALL
    SELECT
        model_id,
        provider,
        source,
        agent_type,
        sign * coalesce(credits_deducted_cents, 0)::numeric AS credits_deducted_cents,
        sign AS event_count,
        sign * coalesce(input_tokens, 0)::numeric AS input_tokens,
        sign * coalesce(cached_input_tokens, 0)::numeric AS cached_input_tokens,
        sign * coalesce(output_tokens, 0)::numeric AS output_tokens,
        sign * coalesce(tool_call_count, 0)::numeric AS tool_call_count,
        false AS is_in_window
    FROM usage_sums.late
    WHERE (SELECT previous.stop > :'previous_since'::timestamptz FROM previous)
        AND created_at >= :'previous_since'::timestamptz
        AND created_at < (SELECT previous.stop FROM previous)
    UNION ALL
    SELECT
        model_id COLLATE "C" AS model_id,
        provider COLLATE "C" AS provider,
        source COLLATE "C" AS source,
        agent_type COLLATE "C" AS agent_type,
        (SELECT previous.rest_sign FROM previous) * coalesce(sum(:"credits_column"), 0)::numeric
            AS credits_deducted_cents,
        (SELECT previous.rest_sign FROM previous) * count(*) AS event_count,
        (SELECT previous.rest_sign FROM previous) * coalesce(sum(input_tokens), 0)::numeric AS input_tokens,
        (SELECT previous.rest_sign FROM previous) * coalesce(sum(cached_input_tokens), 0)::numeric
            AS cached_input_tokens,
        (SELECT previous.rest_sign FROM previous) * coalesce(sum(output_tokens), 0)::numeric AS output_tokens,
        (SELECT previous.rest_sign FROM previous) * coalesce(sum(tool_call_count), 0)::numeric AS tool_call_count,
        false AS is_in_window
    FROM public.usage_events
    WHERE created_at >= (SELECT previous.rest_from FROM previous)
        AND created_at < (SELECT previous.rest_until FROM previous)
        AND (:'account_id'::text = '' OR account_id = nullif(:'account_id'::text, '')::uuid)
    GROUP BY model_id COLLATE "C", provider COLLATE "C", source COLLATE "C", agent_type COLLATE "C"
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
        credits_deducted_cents,
        event_count,
        input_tokens,
        cached_input_tokens,
        output_tokens,
        tool_call_count,
        is_in_window
    FROM part
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
