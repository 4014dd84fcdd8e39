-- credits_rollup: credits spent and number of events per account in a window, one page.
--
-- Parameters
--   :since   timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until   timestamptz  end of the window, exclusive; infinity for none
--   :limit   bigint       rows on this page; 9223372036854775807 for all
--   :offset  bigint       rows before this page
-- Columns: account_id, account_name, account_email, total_credits_deducted_cents, event_count
-- Order:   most credits first; account_id settles ties, so pages never overlap
-- psql -X -v ON_ERROR_STOP=1 -v since=2026-11-01 -v until=infinity -v limit=20 -v offset=0 -f sums/credits_rollup.sql
--
-- Days before the watermark are read from the sums that sql/dba/sums.sql defines, later days from usage_events.
WITH edge AS (
    -- Sums are read up to this day, events from this instant: the watermark, or the UTC midnight before the end of the
    -- window if that is earlier. A window that does not start at a UTC midnight is read from the events alone.
    SELECT
        bound.day,
        greatest(bound.day::timestamp AT TIME ZONE 'UTC', :'since'::timestamptz) AS instant
    FROM (
        SELECT
            greatest(
                (:'since'::timestamptz AT TIME ZONE 'UTC')::date,
                least((:'until'::timestamptz AT TIME ZONE 'UTC')::date, coalesce(max(day), '-infinity'))
            ) AS day
        FROM public.usage_sums_watermark
        WHERE (:'since'::timestamptz AT TIME ZONE 'UTC')::date = :'since'::timestamptz AT TIME ZONE 'UTC'
    ) AS bound
),

part AS (
    SELECT
        account_id,
        credits_deducted_cents,
        event_count
    FROM public.usage_sums
    WHERE :'since'::timestamptz > '-infinity'
        AND day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT edge.day FROM edge)
    UNION ALL
    -- without a cutoff: the totals of all summed days, minus the days after the window
    SELECT
        account_id,
        credits_deducted_cents,
        event_count
    FROM public.usage_sums_total
    WHERE :'since'::timestamptz = '-infinity'
    UNION ALL
    SELECT
        account_id,
        -credits_deducted_cents AS credits_deducted_cents,
        -event_count AS event_count
    FROM public.usage_sums
    WHERE :'since'::timestamptz = '-infinity'
        AND day BETWEEN (SELECT edge.day FROM edge) AND 'infinity'
    UNION ALL
    SELECT
        usage_events.account_id,
        usage_events.credits_deducted_cents::bigint AS credits_deducted_cents,
        1::bigint AS event_count
    FROM public.usage_events
    -- as in credits_rollup.sql of the events, without a cutoff only accounts that exist
    LEFT JOIN public.accounts ON accounts.id = usage_events.account_id AND :'since'::timestamptz = '-infinity'
    -- BETWEEN, because for a lower bound alone that is unknown when it plans, the planner expects a third of the table
    WHERE usage_events.created_at BETWEEN (SELECT edge.instant FROM edge) AND 'infinity'
        AND (usage_events.created_at < :'until'::timestamptz OR :'until'::timestamptz = 'infinity')
        AND (accounts.id IS NOT NULL OR :'since'::timestamptz > '-infinity')
),

spend AS (
    SELECT
        account_id,
        -- sum(bigint) returns numeric
        sum(credits_deducted_cents)::bigint AS total_credits_deducted_cents,
        sum(event_count)::bigint AS event_count
    FROM part
    GROUP BY account_id
    HAVING sum(event_count) > 0
),

page AS (
    SELECT
        account_id,
        total_credits_deducted_cents,
        event_count
    FROM spend
    ORDER BY total_credits_deducted_cents DESC, account_id ASC
    LIMIT :'limit'::bigint OFFSET :'offset'::bigint
),

-- Look up only the accounts of the page: with = ANY(ARRAY(...)) the planner uses the indexes whatever it estimates.
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
    page.event_count
FROM page
LEFT JOIN identity ON identity.account_id = page.account_id
ORDER BY page.total_credits_deducted_cents DESC, page.account_id ASC;
