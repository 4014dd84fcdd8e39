SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_rollup: credits spent and number of events per account in a window, one page.
--
-- Parameters
--   :since           timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until           timestamptz  end of the window, exclusive; infinity for no upper bound
--   :limit           bigint       rows on this page; 9223372036854775807 for all
--   :offset          bigint       rows before this page
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: account_id, account_name, account_email, total_credits_deducted_cents, event_count
-- Order:   most credits first; account_id settles ties, so pages never overlap
-- psql -X -q -v ON_ERROR_STOP=1 -v since=2026-11-01 -v until=infinity -v limit=20 -v offset=0 \
--   -v credits_column=credits_deducted_cents -f sums/credits_rollup.sql
--
-- Events before the watermark are read from the sums that sql/dba/sums.sql defines, later ones from usage_events.
WITH edge AS (
    -- Read the sums of the days before "day", and the events from "instant" on before "stop". The sums contain all events
    -- before the watermark. If the window ends later, the events between the two are added; if it ends up to a day earlier, they
    -- are subtracted. If it ends still earlier, read the days before the one in which it ends, and the events of that day.
    -- A window that begins at an edge is read from usage_sums_window instead of the days.
    SELECT
        summed.is_near AND summed.has_edge AS has_window,
        CASE
            WHEN summed.is_near THEN ((summed.watermark - interval '1 microsecond') AT TIME ZONE 'UTC')::date + 1
            ELSE (:'until'::timestamptz AT TIME ZONE 'UTC')::date
        END AS day,
        greatest(
            :'since'::timestamptz,
            CASE
                WHEN summed.is_near THEN least(:'until'::timestamptz, summed.watermark)
                ELSE (:'until'::timestamptz AT TIME ZONE 'UTC')::date::timestamp AT TIME ZONE 'UTC'
            END
        ) AS instant,
        CASE
            WHEN summed.is_near THEN greatest(:'until'::timestamptz, summed.watermark)
            ELSE :'until'::timestamptz
        END AS stop,
        CASE WHEN summed.is_near AND :'until'::timestamptz < summed.watermark THEN -1 ELSE 1 END AS sign
    FROM (
        -- without a row, and for a window that does not start at a UTC midnight, nothing is read from the sums
        SELECT
            coalesce(max(instant), '-infinity') AS watermark,
            coalesce(bool_or(:'since'::timestamptz = ANY(edges)), false) AS has_edge,
            :'until'::timestamptz > coalesce(max(instant), '-infinity') - interval '1 day' AS is_near
        FROM public.usage_sums_watermark
        WHERE (:'since'::timestamptz AT TIME ZONE 'UTC')::date = :'since'::timestamptz AT TIME ZONE 'UTC'
    ) AS summed
),

-- Accounts with an event between the watermark and the end of the window: their sums are corrected.
moved AS (
    SELECT account_id
    FROM public.usage_events
    WHERE (SELECT edge.has_window FROM edge)
        AND created_at >= (SELECT edge.instant FROM edge)
        AND created_at < (SELECT edge.stop FROM edge)
    GROUP BY account_id
),

-- Their sums, or those of all accounts if usage_sums_window is not read, and the events.
part AS (
    SELECT
        account_id,
        credits_deducted_cents,
        event_count
    FROM public.usage_sums_window
    WHERE (SELECT edge.has_window FROM edge)
        AND edge = :'since'::timestamptz
        AND account_id = ANY(ARRAY(SELECT moved.account_id FROM moved))
    UNION ALL
    SELECT
        account_id,
        credits_deducted_cents,
        event_count
    FROM public.usage_sums
    WHERE (SELECT NOT edge.has_window FROM edge)
        AND day >= (:'since'::timestamptz AT TIME ZONE 'UTC')::date
        AND day < (SELECT edge.day FROM edge)
    UNION ALL
    SELECT
        account_id,
        coalesce(:"credits_column", 0)::bigint AS credits_deducted_cents,
        (SELECT edge.sign FROM edge)::bigint AS event_count
    FROM public.usage_events
    WHERE created_at >= (SELECT edge.instant FROM edge)
        AND created_at < (SELECT edge.stop FROM edge)
),

-- The top rows of these accounts and of the others are enough for a page.
spend AS (
    (
        SELECT
            account_id,
            -- Events with a negative count are subtracted.
            sum(credits_deducted_cents) FILTER (WHERE event_count > 0)
            - coalesce(sum(credits_deducted_cents) FILTER (WHERE event_count < 0), 0)
                AS total_credits_deducted_cents,
            sum(event_count)::bigint AS event_count
        FROM part
        GROUP BY account_id
        HAVING sum(event_count) > 0
        ORDER BY total_credits_deducted_cents DESC, account_id ASC
        LIMIT least(:'limit'::bigint::numeric + :'offset'::bigint, 9223372036854775807)::bigint
    )
    UNION ALL
    (
        SELECT
            account_id,
            credits_deducted_cents AS total_credits_deducted_cents,
            event_count
        FROM public.usage_sums_window
        WHERE (SELECT edge.has_window FROM edge)
            AND edge = :'since'::timestamptz
            -- With unnest(ARRAY(...)) the planner hashes the list, however long it expects "moved" to be.
            AND account_id NOT IN (SELECT unnest(ARRAY(SELECT moved.account_id FROM moved)))
        ORDER BY credits_deducted_cents DESC, account_id ASC
        LIMIT least(:'limit'::bigint::numeric + :'offset'::bigint, 9223372036854775807)::bigint
    )
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
    page.event_count
FROM page
LEFT JOIN identity ON identity.account_id = page.account_id
ORDER BY page.total_credits_deducted_cents DESC, page.account_id ASC;
