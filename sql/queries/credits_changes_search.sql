SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_changes_search: credits_changes of the accounts that a text finds.
--
-- Parameters
--   :search          text         part of the name or of any address, or eight or more characters that the id begins
--                                 with; in either case
--   :since           timestamptz  start of the window, inclusive
--   :until           timestamptz  end of the window, exclusive; infinity for no upper bound
--   :previous_since  timestamptz  start of the window before, inclusive
--   :previous_until  timestamptz  end of the window before, exclusive; not after since
--   :only            text         accounts that started or stopped, or whose credits went up or down; empty for all
--   :limit           bigint       rows on this page; 9223372036854775807 for all
--   :offset          bigint       rows before this page
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: account_id, account_name, account_email, total_credits_deducted_cents, event_count,
--   previous_credits_deducted_cents, previous_event_count, change_credits_deducted_cents
-- Order:   largest change first, up or down; account_id settles ties, so pages never overlap
-- psql -X -q -v ON_ERROR_STOP=1 -v search=nova -v since=2026-11-01 -v until=infinity \
--   -v previous_since=2026-10-01 -v previous_until=2026-11-01 -v only= -v limit=20 -v offset=0 \
--   -v credits_column=credits_deducted_cents -f credits_changes_search.sql
WITH found AS (
    -- lower() on both sides and LIKE, so that an index of pg_trgm can serve it: see sql/dba/indexes.sql. No backslash,
    -- whose meaning is a setting.
    SELECT id AS account_id
    FROM public.accounts
    WHERE lower(name COLLATE "default")
        LIKE '%' || replace(replace(replace(lower(:'search'::text), '!', '!!'), '%', '!%'), '_', '!_') || '%' ESCAPE '!'
        -- Ids that begin with the text lie between it filled up with 0 and with f. These are null unless they are UUIDs;
        -- a text of fewer than eight characters is filled up with x.
        OR (
            id >= substring(
                :'search'::text || substr('xxxxxxxx-0000-0000-0000-000000000000', length(:'search'::text) + 1),
                '^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$'
            )::uuid
            AND id <= substring(
                :'search'::text || substr('xxxxxxxx-ffff-ffff-ffff-ffffffffffff', length(:'search'::text) + 1),
                '^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$'
            )::uuid
        )
    UNION
    SELECT account_id
    FROM public.account_emails
    WHERE lower(email COLLATE "default")
        LIKE '%' || replace(replace(replace(lower(:'search'::text), '!', '!!'), '%', '!%'), '_', '!_') || '%' ESCAPE '!'
),

spend AS (
    SELECT
        account_id,
        coalesce(sum(:"credits_column") FILTER (WHERE created_at >= :'since'::timestamptz), 0)
            AS total_credits_deducted_cents,
        count(*) FILTER (WHERE created_at >= :'since'::timestamptz) AS event_count,
        coalesce(sum(:"credits_column") FILTER (WHERE created_at < :'since'::timestamptz), 0)
            AS previous_credits_deducted_cents,
        count(*) FILTER (WHERE created_at < :'since'::timestamptz) AS previous_event_count
    FROM public.usage_events
    -- both windows in one scan
    WHERE created_at >= :'previous_since'::timestamptz
        AND created_at < :'until'::timestamptz
        AND (created_at >= :'since'::timestamptz OR created_at < :'previous_until'::timestamptz)
        AND account_id IN (SELECT found.account_id FROM found)
    GROUP BY account_id
),

page AS (
    SELECT
        account_id,
        total_credits_deducted_cents,
        event_count,
        previous_credits_deducted_cents,
        previous_event_count,
        total_credits_deducted_cents - previous_credits_deducted_cents AS change_credits_deducted_cents
    FROM spend
    -- a constant when it is planned, unless only some are asked for
    WHERE
        CASE :'only'::text
            WHEN '' THEN true
            WHEN 'started' THEN previous_event_count = 0
            WHEN 'stopped' THEN event_count = 0
            WHEN 'up' THEN total_credits_deducted_cents > previous_credits_deducted_cents
            WHEN 'down' THEN total_credits_deducted_cents < previous_credits_deducted_cents
            -- fails, with the value in the message
            ELSE (:'only'::text || ' is not started, stopped, up or down')::boolean
        END
    ORDER BY abs(total_credits_deducted_cents - previous_credits_deducted_cents) DESC, account_id ASC
    LIMIT :'limit'::bigint OFFSET :'offset'::bigint
),

-- Look up only the accounts of the page. With = ANY(ARRAY(...)) the planner uses the indexes even if it expects many.
-- Without a limit, read both tables once instead.
identity AS MATERIALIZED (
    SELECT
        accounts.id AS account_id,
        accounts.name AS account_name,
        address.email AS account_email
    FROM public.accounts
    LEFT JOIN (
        SELECT DISTINCT ON (account_emails.account_id)
            account_emails.account_id,
            account_emails.email
        FROM public.account_emails
        WHERE account_emails.email IS NOT NULL
            AND (
                :'limit'::bigint = 9223372036854775807
                OR account_emails.account_id = ANY(ARRAY(SELECT page.account_id FROM page))
            )
        ORDER BY account_emails.account_id ASC, account_emails.updated_at DESC, account_emails.email COLLATE "C" ASC
    ) AS address ON address.account_id = accounts.id
    WHERE :'limit'::bigint = 9223372036854775807 OR accounts.id = ANY(ARRAY(SELECT page.account_id FROM page))
)

SELECT
    page.account_id,
    identity.account_name,
    identity.account_email,
    page.total_credits_deducted_cents,
    page.event_count,
    page.previous_credits_deducted_cents,
    page.previous_event_count,
    page.change_credits_deducted_cents
FROM page
LEFT JOIN identity ON identity.account_id = page.account_id
ORDER BY abs(page.change_credits_deducted_cents) DESC, page.account_id ASC;
