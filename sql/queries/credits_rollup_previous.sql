SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_rollup_previous: credits spent and number of events of given accounts in the window before.
--
-- Parameters
--   :account_ids     uuid[]       the accounts, as {id,id}
--   :previous_since  timestamptz  start of the window before, inclusive
--   :previous_until  timestamptz  end of the window before, exclusive
--   :credits_column  identifier   credits_deducted_cents, or credits_deducted where that is its name
-- Columns: account_id, previous_credits_deducted_cents, previous_event_count
-- Order:   account_id; no row for an account without events
-- psql -X -q -v ON_ERROR_STOP=1 -v account_ids={3c90c3cc-0d44-4b50-8888-8dd25736052a} -v previous_since=2026-10-01 \
--   -v previous_until=2026-11-01 -v credits_column=credits_deducted_cents -f credits_rollup_previous.sql
SELECT
    account_id,
    coalesce(sum(:"credits_column"), 0) AS previous_credits_deducted_cents,
    count(*) AS previous_event_count
FROM public.usage_events
WHERE account_id = ANY(:'account_ids'::uuid[])
    AND created_at >= :'previous_since'::timestamptz
    AND created_at < :'previous_until'::timestamptz
GROUP BY account_id
ORDER BY account_id ASC;
