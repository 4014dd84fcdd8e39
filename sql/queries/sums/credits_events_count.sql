SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_events_count: number of usage events of one account in a window, from the sums.
-- Parameters, columns and order are those of ../credits_events_count.sql. usage_sums.cover() is in sql/dba/sums.sql.
WITH cover AS (
    SELECT day_until, stop, rest_from, rest_until, rest_sign
    FROM usage_sums.cover(:'since'::timestamptz, :'until'::timestamptz, 'days'::text)
    -- fails for filters: sums of accounts have none
    WHERE replace(:'filters'::jsonb::text, '{}', 'true')::boolean
)

SELECT (days.event_count + late.event_count + rest.event_count)::bigint AS total_count
FROM (
    SELECT coalesce(sum(event_count), 0) AS event_count
    FROM usage_sums.days
    WHERE account_id = :'account_id'::uuid
        AND day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT cover.day_until FROM cover)
) AS days
CROSS JOIN (
    SELECT coalesce(sum(sign), 0) AS event_count
    FROM usage_sums.late
    WHERE (SELECT cover.stop > :'since'::timestamptz FROM cover)
        AND account_id = :'account_id'::uuid
        AND created_at >= :'since'::timestamptz
        AND created_at < (SELECT cover.stop FROM cover)
) AS late
CROSS JOIN (
    SELECT count(*) * (SELECT cover.rest_sign FROM cover) AS event_count
    FROM public.usage_events
    WHERE account_id = :'account_id'::uuid
        AND created_at >= (SELECT cover.rest_from FROM cover)
        AND created_at < (SELECT cover.rest_until FROM cover)
) AS rest;
