SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_rollup: credits spent and number of events per account in a window, one page, from the sums.
-- Parameters, columns and order are those of ../credits_rollup.sql. usage_sums.cover() is in sql/dba/sums.sql.
WITH found AS MATERIALIZED (
    SELECT id AS account_id
    FROM public.accounts
    WHERE lower(name COLLATE "default")
        LIKE '%' || replace(replace(replace(lower(:'search'::text), '!', '!!'), '%', '!%'), '_', '!_') || '%' ESCAPE '!'
        OR id BETWEEN rpad(substring(replace(:'search'::text, '-', ''), '^[0-9A-Fa-f]{8,32}$'), 32, '0')::uuid
        AND rpad(substring(replace(:'search'::text, '-', ''), '^[0-9A-Fa-f]{8,32}$'), 32, 'f')::uuid
        AND starts_with(id::text, lower(:'search'::text))
    UNION ALL
    SELECT account_id
    FROM public.account_emails
    WHERE lower(email COLLATE "default")
        LIKE '%' || replace(replace(replace(lower(:'search'::text), '!', '!!'), '%', '!%'), '_', '!_') || '%' ESCAPE '!'
),

cover AS (
    SELECT window_id, day_until, stop, rest_from, rest_until, rest_sign
    FROM usage_sums.cover(:'since'::timestamptz, :'until'::timestamptz, 'windows'::text)
    -- fails for filters: sums of accounts have none
    WHERE replace(:'filters'::jsonb::text, '{}', 'true')::boolean
),

-- What no kept sum covers: late changes, and the other events.
beside AS NOT MATERIALIZED (
    SELECT account_id, coalesce(credits_deducted_cents, 0) AS credits_deducted_cents, sign::bigint AS event_count
    FROM usage_sums.late
    -- not at all where the sums are not used, however long the ledger is
    WHERE (SELECT cover.stop > :'since'::timestamptz FROM cover)
        AND created_at >= :'since'::timestamptz AND created_at < (SELECT cover.stop FROM cover)
    UNION ALL
    SELECT
        account_id, coalesce(:"credits_column", 0)::bigint AS credits_deducted_cents,
        (SELECT cover.rest_sign FROM cover)::bigint AS event_count
    FROM public.usage_events
    WHERE created_at >= (SELECT cover.rest_from FROM cover) AND created_at < (SELECT cover.rest_until FROM cover)
),

moved AS (
    SELECT DISTINCT account_id
    FROM beside
    WHERE (SELECT cover.window_id IS NOT NULL FROM cover)
),

-- The sums that have to be corrected, or are asked for by a search; or the days, if none are kept.
part AS NOT MATERIALIZED (
    SELECT account_id, credits_deducted_cents, event_count::bigint AS event_count
    FROM usage_sums.accounts
    WHERE window_id = (SELECT cover.window_id FROM cover)
        AND (:'search'::text <> '' OR account_id = ANY(ARRAY(SELECT moved.account_id FROM moved)))
    UNION ALL
    SELECT account_id, credits_deducted_cents, event_count::bigint AS event_count
    FROM usage_sums.days
    WHERE day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date AND day < (SELECT cover.day_until FROM cover)
    UNION ALL
    SELECT account_id, credits_deducted_cents, event_count
    FROM beside
),

spent AS (
    SELECT account_id, credits_deducted_cents, event_count
    FROM part
    WHERE :'search'::text = ''
        OR ((SELECT count(*) <= 1000 FROM found) AND account_id = ANY(ARRAY(SELECT found.account_id FROM found)))
    UNION ALL
    SELECT account_id, credits_deducted_cents, event_count
    FROM part
    WHERE :'search'::text <> '' AND (SELECT count(*) > 1000 FROM found)
        AND (account_id IN (SELECT found.account_id FROM found)) IS TRUE
),

-- Of the other sums the top rows are enough for a page.
other AS (
    SELECT account_id, credits_deducted_cents, event_count
    FROM usage_sums.accounts
    WHERE :'search'::text = ''
        AND window_id = (SELECT cover.window_id FROM cover)
        -- With unnest(ARRAY(...)) the planner hashes the list, however long it expects "moved" to be.
        AND account_id NOT IN (SELECT unnest(ARRAY(SELECT moved.account_id FROM moved)))
    ORDER BY credits_deducted_cents DESC, account_id ASC
    LIMIT least(:'limit'::bigint::numeric + :'offset'::bigint, 9223372036854775807)::bigint
),

page AS (
    SELECT
        account_id,
        coalesce(sum(credits_deducted_cents) FILTER (WHERE event_count > 0), 0)
        - coalesce(sum(credits_deducted_cents) FILTER (WHERE event_count < 0), 0) AS total_credits_deducted_cents,
        sum(event_count)::bigint AS event_count
    FROM spent
    GROUP BY account_id
    HAVING sum(event_count) > 0
    UNION ALL
    SELECT account_id, credits_deducted_cents AS total_credits_deducted_cents, event_count
    FROM other
    ORDER BY total_credits_deducted_cents DESC, account_id ASC
    LIMIT :'limit'::bigint OFFSET :'offset'::bigint
),

identity AS MATERIALIZED (
    SELECT accounts.id AS account_id, accounts.name AS account_name, address.email AS account_email
    FROM public.accounts
    LEFT JOIN (
        SELECT DISTINCT ON (account_id) account_id, email
        FROM public.account_emails
        WHERE email IS NOT NULL
            AND (:'limit'::bigint = 9223372036854775807 OR account_id = ANY(ARRAY(SELECT page.account_id FROM page)))
        ORDER BY account_id ASC, updated_at DESC, email COLLATE "C" ASC
    ) AS address ON address.account_id = accounts.id
    WHERE :'limit'::bigint = 9223372036854775807 OR accounts.id = ANY(ARRAY(SELECT page.account_id FROM page))
)

SELECT
    page.account_id, identity.account_name, identity.account_email, page.total_credits_deducted_cents, page.event_count
FROM page
LEFT JOIN identity ON identity.account_id = page.account_id
ORDER BY page.total_credits_deducted_cents DESC, page.account_id ASC;
