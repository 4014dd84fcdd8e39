SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_grants: balances that staff set by hand for one account in a window, the 500 newest.
--
-- Parameters
--   :account_id  uuid         the account
--   :since       timestamptz  start of the window, inclusive; -infinity for no cutoff
--   :until       timestamptz  end of the window, exclusive; infinity for no upper bound
-- Columns: id, account_id, created_at, granted_by, reason, previous_credits, remaining_credits
-- Order:   newest first; id settles ties
-- psql -X -q -v ON_ERROR_STOP=1 -v account_id=3c90c3cc-0d44-4b50-8888-8dd25736052a -v since=2026-11-01 -v until=infinity \
--   -f credits_grants.sql
SELECT
    id,
    account_id,
    created_at,
    granted_by,
    reason,
    previous_credits,
    coalesce(remaining_credits, 0) AS remaining_credits
FROM public.credit_grants
WHERE account_id = :'account_id'::uuid
    AND created_at >= :'since'::timestamptz
    AND created_at < :'until'::timestamptz
ORDER BY created_at DESC, id DESC
LIMIT 500;
