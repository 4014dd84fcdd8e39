SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_changes: by how much the credits of each account differ from those in the window before, one page, from the sums.
-- Parameters, columns and order are those of ../credits_changes.sql. usage_sums.cover() is in sql/dba/sums.sql.
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
    SELECT
        :'since'::timestamptz AS since, window_id, day_until, stop, rest_from, rest_until, rest_sign,
        true AS is_in_window
    FROM usage_sums.cover(:'since'::timestamptz, :'until'::timestamptz, 'windows'::text)
    WHERE replace(:'filters'::jsonb::text, '{}', 'true')::boolean
    UNION ALL
    SELECT
        :'previous_since'::timestamptz AS since, window_id, day_until, stop, rest_from, rest_until, rest_sign,
        false AS is_in_window
    FROM usage_sums.cover(:'previous_since'::timestamptz, :'previous_until'::timestamptz, 'windows'::text)
),

part AS NOT MATERIALIZED (
    SELECT kept.account_id, kept.credits_deducted_cents, kept.event_count::bigint AS event_count, cover.is_in_window
    FROM cover
    INNER JOIN usage_sums.accounts AS kept ON kept.window_id = cover.window_id
    UNION ALL
    SELECT kept.account_id, kept.credits_deducted_cents, kept.event_count::bigint AS event_count, cover.is_in_window
    FROM cover
    INNER JOIN usage_sums.days AS kept
        ON kept.day >= (cover.since AT TIME ZONE 'UTC')::date AND kept.day < cover.day_until
    UNION ALL
    SELECT
        late.account_id, coalesce(late.credits_deducted_cents, 0) AS credits_deducted_cents,
        late.sign::bigint AS event_count, cover.is_in_window
    FROM cover
    INNER JOIN usage_sums.late ON late.created_at >= cover.since AND late.created_at < cover.stop
    -- not at all where the sums are not used, however long the ledger is
    WHERE (SELECT bool_or(edges.stop > edges.since) FROM cover AS edges)
    UNION ALL
    SELECT
        rest.account_id, coalesce(rest.:"credits_column", 0)::bigint AS credits_deducted_cents,
        cover.rest_sign::bigint AS event_count, cover.is_in_window
    FROM cover
    INNER JOIN public.usage_events AS rest
        ON rest.created_at >= cover.rest_from AND rest.created_at < cover.rest_until
),

spent AS (
    SELECT account_id, credits_deducted_cents, event_count, is_in_window
    FROM part
    WHERE :'search'::text = ''
        OR ((SELECT count(*) <= 1000 FROM found) AND account_id = ANY(ARRAY(SELECT found.account_id FROM found)))
    UNION ALL
    SELECT account_id, credits_deducted_cents, event_count, is_in_window
    FROM part
    WHERE :'search'::text <> '' AND (SELECT count(*) > 1000 FROM found)
        AND (account_id IN (SELECT found.account_id FROM found)) IS TRUE
),

spend AS (
    SELECT
        account_id,
        coalesce(sum(credits_deducted_cents) FILTER (WHERE is_in_window AND event_count > 0), 0)
        - coalesce(sum(credits_deducted_cents) FILTER (WHERE is_in_window AND event_count < 0), 0)
            AS total_credits_deducted_cents,
        coalesce(sum(event_count) FILTER (WHERE is_in_window), 0)::bigint AS event_count,
        coalesce(sum(credits_deducted_cents) FILTER (WHERE NOT is_in_window AND event_count > 0), 0)
        - coalesce(sum(credits_deducted_cents) FILTER (WHERE NOT is_in_window AND event_count < 0), 0)
            AS previous_credits_deducted_cents,
        coalesce(sum(event_count) FILTER (WHERE NOT is_in_window), 0)::bigint AS previous_event_count
    FROM spent
    GROUP BY account_id
    HAVING sum(event_count) > 0
),

page AS (
    SELECT account_id, total_credits_deducted_cents, event_count, previous_credits_deducted_cents, previous_event_count
    FROM spend
    WHERE CASE :'only'::text
            WHEN '' THEN true
            WHEN 'started' THEN previous_event_count = 0
            WHEN 'stopped' THEN event_count = 0
            WHEN 'up' THEN total_credits_deducted_cents > previous_credits_deducted_cents
            WHEN 'down' THEN total_credits_deducted_cents < previous_credits_deducted_cents
            ELSE (:'only'::text || ' is not started, stopped, up or down')::boolean
        END
    ORDER BY abs(total_credits_deducted_cents - previous_credits_deducted_cents) DESC, account_id ASC
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
    page.account_id, identity.account_name, identity.account_email, page.total_credits_deducted_cents, page.event_count,
    page.previous_credits_deducted_cents, page.previous_event_count,
    page.total_credits_deducted_cents - page.previous_credits_deducted_cents AS change_credits_deducted_cents
FROM page
LEFT JOIN identity ON identity.account_id = page.account_id
ORDER BY abs(page.total_credits_deducted_cents - page.previous_credits_deducted_cents) DESC, page.account_id ASC;
