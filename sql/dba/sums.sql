-- sums: create the sums that sql/queries/sums reads, and the function that refreshes them.
--
-- Run it as the owner of the tables or as a superuser; run it again after each upgrade of the service:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f sums.sql
-- Then schedule sums_refresh.sql every hour, or with pg_cron
--   SELECT cron.schedule('usage_sums', '7 * * * *', 'SELECT public.usage_sums_refresh()');
-- and set SPEND_SOURCE=sums for the service.
--
-- Three tables:
--   usage_sums            one row per account and UTC day with an event, for the days before the watermark
--   usage_sums_total      one row per account: the sum of its rows in usage_sums
--   usage_sums_watermark  one row: the first day that is not summed
-- A query reads the days before the watermark from the sums and the rest from usage_events, in one snapshot. The time
-- of the last refresh changes the cost of an answer, not the answer.
--
-- The sums do not notice changes of events before the watermark. Each refresh compares a random sample, a hundred rows of
-- usage_sums, with their events, and fails if one differs. So it detects that all events were changed, such as a column
-- converted to another unit, but hardly ever a change of a few events: run sums_check.sql for that. Until the refresh
-- fails and the sums are repaired, answers are wrong. After changing many events, run
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -v since=-infinity -f sums_refresh.sql
--
-- Writers of events are not affected: there is no trigger, and a refresh takes only an ACCESS SHARE lock on
-- usage_events. Foreign keys delete the sums of an account with the account.
\set ON_ERROR_STOP on

SET client_min_messages = warning;
-- Creating the foreign keys locks accounts, and writers would queue behind a lock request that waits.
SET lock_timeout = '2s';

BEGIN;

CREATE TABLE IF NOT EXISTS public.usage_sums (
    account_id uuid NOT NULL REFERENCES public.accounts (id) ON DELETE CASCADE,
    day date NOT NULL,
    credits_deducted_cents bigint NOT NULL,
    event_count bigint NOT NULL,
    PRIMARY KEY (account_id, day)
);

-- For windows over all accounts. Rows are inserted in the order of the days, so the rows of a day are adjacent and
-- (day) is enough.
CREATE INDEX IF NOT EXISTS usage_sums_day_idx ON public.usage_sums (day);

CREATE TABLE IF NOT EXISTS public.usage_sums_total (
    account_id uuid PRIMARY KEY REFERENCES public.accounts (id) ON DELETE CASCADE,
    credits_deducted_cents bigint NOT NULL,
    event_count bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS public.usage_sums_watermark (
    day date NOT NULL CHECK (day < 'infinity'),
    is_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_only_row)
);

-- Before the first refresh no day is summed.
INSERT INTO public.usage_sums_watermark (day) VALUES ('-infinity') ON CONFLICT DO NOTHING;

ALTER TABLE public.usage_sums ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.usage_sums_total ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.usage_sums_watermark ENABLE ROW LEVEL SECURITY;

-- Sum the days from the watermark on that can be closed, in the caller's transaction. With "since", also sum the days
-- from that day on again. Return the first day summed, the new watermark, and why the watermark is before today.
--
-- A day can be closed when it has ended and no open transaction can still commit an event of that day. created_at
-- defaults to the start of the transaction, so the day in which the oldest transaction in this database began stays
-- open. The start of a prepared transaction, or of one in a session with track_activities off, is unknown: while there
-- is one, no day is closed. "margin" covers the time between the start of a transaction and its appearance in
-- pg_stat_activity, and a system clock that is set back.
CREATE OR REPLACE FUNCTION public.usage_sums_refresh(since date DEFAULT NULL, margin interval DEFAULT '5 minutes')
RETURNS TABLE (first_day date, watermark date, held_back_by text)
LANGUAGE plpgsql
-- Raise an error if row-level security would hide events.
SET row_security = off
AS $$
DECLARE
    old_watermark date;
    oldest_start timestamptz;
    is_unknown boolean;
    sample_start uuid := gen_random_uuid();
    changed_day date;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'usage_sums_refresh must run READ COMMITTED'
            USING HINT = 'It lists the open transactions, and must then see everything that was committed before.';
    END IF;
    IF NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') THEN
        RAISE EXCEPTION 'usage_sums_refresh must see when transactions of other roles began'
            USING HINT = format('GRANT pg_read_all_stats TO %I;', current_user);
    END IF;

    -- A concurrent refresh waits here, and then finds nothing to do.
    SELECT day INTO STRICT old_watermark FROM public.usage_sums_watermark FOR UPDATE;

    -- Read pg_stat_activity before pg_prepared_xacts, so that a transaction that is being prepared is in one of them. A
    -- transaction in neither has ended and is visible to the statements below, or has yet to begin and writes events of
    -- today.
    SELECT min(xact_start), bool_or(state = 'disabled')
    INTO oldest_start, is_unknown
    FROM pg_catalog.pg_stat_activity
    WHERE datname = current_database() AND backend_type <> 'autovacuum worker';
    is_unknown := is_unknown OR EXISTS (
        SELECT FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()
    );

    watermark := (least(oldest_start, now() - margin) AT TIME ZONE 'UTC')::date;
    IF is_unknown THEN
        watermark := old_watermark;
        held_back_by := 'a prepared transaction, or a session with track_activities off';
    ELSIF watermark < (now() AT TIME ZONE 'UTC')::date THEN
        held_back_by := format('a transaction that began %s ago, or the margin', now() - oldest_start);
    END IF;
    watermark := greatest(old_watermark, watermark);
    first_day := least(since, old_watermark);

    -- Compare a sample of the days that stay closed with their events.
    BEGIN
        SELECT min(sample.day)
        INTO changed_day
        FROM (
            (
                SELECT *
                FROM public.usage_sums
                WHERE account_id <= sample_start AND day < first_day
                ORDER BY account_id DESC, day DESC
                LIMIT 50
            )
            UNION ALL
            (
                SELECT *
                FROM public.usage_sums
                WHERE account_id > sample_start AND day < first_day
                ORDER BY account_id ASC, day ASC
                LIMIT 50
            )
        ) AS sample
        -- a day at -infinity has no next day
        WHERE isfinite(sample.day) AND EXISTS (
            SELECT
            FROM public.usage_events
            WHERE account_id = sample.account_id
                AND created_at >= sample.day::timestamp AT TIME ZONE 'UTC'
                AND created_at < (sample.day + 1)::timestamp AT TIME ZONE 'UTC'
            HAVING (sum(credits_deducted_cents), count(*))
                IS DISTINCT FROM (sample.credits_deducted_cents, sample.event_count)
        );
    EXCEPTION WHEN feature_not_supported THEN
        -- Citus does not support this: there, run sums_check.sql.
    END;
    IF changed_day IS NOT NULL THEN
        RAISE EXCEPTION 'the sums of % differ from its events', changed_day
            USING HINT = 'Run sums_refresh.sql with since=-infinity, or first sums_check.sql, which lists the days.';
    END IF;

    IF first_day < old_watermark THEN
        BEGIN
            -- Lock the accounts first, so that a deletion and the refresh cannot deadlock.
            PERFORM FROM public.accounts WHERE id IN (SELECT account_id FROM public.usage_sums) FOR KEY SHARE;
        EXCEPTION WHEN feature_not_supported THEN
            -- Citus does not support this: there, a repair and a deletion can deadlock.
        END;
    END IF;

    FOR attempt IN 1..10 LOOP
        BEGIN
            DELETE FROM public.usage_sums WHERE day >= first_day;

            INSERT INTO public.usage_sums (account_id, day, credits_deducted_cents, event_count)
            SELECT account_id, (created_at AT TIME ZONE 'UTC')::date AS day, sum(credits_deducted_cents), count(*)
            FROM public.usage_events
            WHERE created_at >= first_day::timestamp AT TIME ZONE 'UTC'
                AND created_at < watermark::timestamp AT TIME ZONE 'UTC'
            GROUP BY account_id, (created_at AT TIME ZONE 'UTC')::date
            ORDER BY day, account_id;

            IF first_day < old_watermark THEN
                -- the totals include days that have changed: rebuild them
                DELETE FROM public.usage_sums_total;
            END IF;

            INSERT INTO public.usage_sums_total AS total (account_id, credits_deducted_cents, event_count)
            SELECT account_id, sum(credits_deducted_cents), sum(event_count)
            FROM public.usage_sums
            WHERE day >= first_day OR first_day < old_watermark
            GROUP BY account_id
            ORDER BY account_id
            ON CONFLICT (account_id) DO UPDATE
            SET credits_deducted_cents = total.credits_deducted_cents + excluded.credits_deducted_cents,
                event_count = total.event_count + excluded.event_count;
            EXIT;
        EXCEPTION WHEN foreign_key_violation OR deadlock_detected THEN
            -- An account was deleted meanwhile. Try again: its events are gone too. If not, an event refers to an account
            -- that does not exist.
            IF attempt = 10 THEN
                RAISE;
            END IF;
        END;
    END LOOP;

    UPDATE public.usage_sums_watermark SET day = watermark;
    RETURN NEXT;
END
$$;

REVOKE EXECUTE ON FUNCTION public.usage_sums_refresh(date, interval) FROM public;

-- reader_role.sql grants the same when it is run after this script.
SELECT to_regrole('credits_reader') IS NOT NULL AS has_reader
\gset
\if :has_reader
GRANT SELECT (account_id, day, credits_deducted_cents, event_count) ON public.usage_sums TO credits_reader;
GRANT SELECT (account_id, credits_deducted_cents, event_count) ON public.usage_sums_total TO credits_reader;
GRANT SELECT (day) ON public.usage_sums_watermark TO credits_reader;
DROP POLICY IF EXISTS credits_reader ON public.usage_sums;
CREATE POLICY credits_reader ON public.usage_sums FOR SELECT TO credits_reader USING (true);
DROP POLICY IF EXISTS credits_reader ON public.usage_sums_total;
CREATE POLICY credits_reader ON public.usage_sums_total FOR SELECT TO credits_reader USING (true);
DROP POLICY IF EXISTS credits_reader ON public.usage_sums_watermark;
CREATE POLICY credits_reader ON public.usage_sums_watermark FOR SELECT TO credits_reader USING (true);
\endif

COMMIT;
