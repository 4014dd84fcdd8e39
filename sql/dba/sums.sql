-- sums: the sums of closed days, from which sql/queries/sums answers, and the function that keeps them.
--
-- Run by the owner of the tables, or by a superuser, as often as you like, and again after an upgrade of the service:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f sums.sql
-- Then have sums_refresh.sql run every hour, or
--   SELECT cron.schedule('usage_sums', '7 * * * *', 'SELECT public.usage_sums_refresh()');
-- and set SPEND_SOURCE=sums where the service runs.
--
-- Three tables:
--   usage_sums            a row for each account and UTC day with an event, of the days before the watermark
--   usage_sums_total      a row for each account: the sum of its rows in usage_sums
--   usage_sums_watermark  one row: the first day that is not summed
-- Whoever reads takes the days before the watermark from the sums and everything from there on from usage_events, in one
-- snapshot: how long ago the last refresh was changes the cost of an answer and not the answer.
--
-- Nothing is put on the path of those who write events: no trigger, no lock on usage_events but a reader's. Foreign keys
-- make the sums of an account go when the account goes.
\set ON_ERROR_STOP on

SET client_min_messages = warning;
-- Rather give up than have writers queue behind this: a foreign key locks accounts while it is made.
SET lock_timeout = '2s';

BEGIN;

CREATE TABLE IF NOT EXISTS public.usage_sums (
    account_id uuid NOT NULL REFERENCES public.accounts (id) ON DELETE CASCADE,
    day date NOT NULL,
    credits_deducted_cents bigint NOT NULL,
    event_count bigint NOT NULL,
    PRIMARY KEY (account_id, day)
);

-- A window over all accounts. Days are added in their order, so that a day's rows lie side by side and no more than the
-- day is needed here.
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

-- Before the first refresh no day is summed, and every answer comes from usage_events.
INSERT INTO public.usage_sums_watermark (day) VALUES ('-infinity') ON CONFLICT DO NOTHING;

ALTER TABLE public.usage_sums ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.usage_sums_total ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.usage_sums_watermark ENABLE ROW LEVEL SECURITY;

-- Sum the days from the watermark on that can be closed, in the transaction of the caller; with "since" those from that
-- day on anew, too. It returns the first day it summed, the first it did not, and why that is not today.
--
-- A day can be closed when it is over and no transaction is left that may still commit an event of it. created_at is the
-- start of the writing transaction: so the day in which the oldest transaction of this database began stays open. Of
-- a prepared transaction, and of a session with track_activities off, nobody knows when it began: while there is one,
-- nothing is closed. "margin" is for the instant between a transaction's beginning and its being listed, and for
-- a clock that is set back.
CREATE OR REPLACE FUNCTION public.usage_sums_refresh(since date DEFAULT NULL, margin interval DEFAULT '5 minutes')
RETURNS TABLE (first_day date, watermark date, held_back_by text)
LANGUAGE plpgsql
-- An error, not a wrong sum, for a role from which row-level security would hide events.
SET row_security = off
AS $$
DECLARE
    old_watermark date;
    oldest_start timestamptz;
    is_unknown boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'usage_sums_refresh must run READ COMMITTED'
            USING HINT = 'It looks who is writing, and must then see all that was committed until that.';
    END IF;
    IF NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') THEN
        RAISE EXCEPTION 'usage_sums_refresh must see when the transactions of other roles began'
            USING HINT = format('GRANT pg_read_all_stats TO %I;', current_user);
    END IF;

    -- One at a time: a second waits here, and then finds nothing left to do.
    SELECT day INTO STRICT old_watermark FROM public.usage_sums_watermark FOR UPDATE;

    -- First who is running, then who is prepared: in this order none slips through between the two. What is in neither
    -- list has ended, and each statement below sees it, or will begin, and write events of today.
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
        held_back_by := 'a transaction that is prepared, or of a session with track_activities off';
    ELSIF watermark < (now() AT TIME ZONE 'UTC')::date THEN
        held_back_by := format('a transaction that began %s ago, or the margin', now() - oldest_start);
    END IF;
    watermark := greatest(old_watermark, watermark);
    first_day := least(since, old_watermark);

    IF first_day < old_watermark THEN
        BEGIN
            -- Whoever is deleting an account is waited for before a row is touched that he will wait for.
            PERFORM FROM public.accounts WHERE id IN (SELECT account_id FROM public.usage_sums) FOR KEY SHARE;
        EXCEPTION WHEN feature_not_supported THEN
            -- Citus cannot: there, a repair and the deletion of an account may meet in a deadlock.
        END;
    END IF;

    LOOP
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
                -- days that were in the totals have changed
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
            -- An account was deleted meanwhile, and its events with it: the next attempt does not see them.
        END;
    END LOOP;

    UPDATE public.usage_sums_watermark SET day = watermark;
    RETURN NEXT;
END
$$;

REVOKE EXECUTE ON FUNCTION public.usage_sums_refresh(date, interval) FROM public;

-- What reader_role.sql does for the other tables, and for these when it is run again.
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
