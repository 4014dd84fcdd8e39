-- reconcile: the accounts whose wallet and events disagree.
--
-- What a wallet should hold is what staff last set by hand, minus the credits of the events since. It is compared with
-- what the wallet holds, credits_usage.remaining_credits, for each account that has both a wallet and a grant. A charge
-- that took credits from a wallet and left no event shows here, and nowhere else.
--
-- Columns: account_id, account_name, last_grant_at, granted_credits, credits_since, event_count_since,
--   expected_credits, wallet_credits, unexplained_credits (what is missing in the wallet; negative: what is too much)
-- Order:   the largest difference first, account_id settles ties
-- No rows: everything agrees.
--
-- It only reads, in one statement. Run it as a superuser or as the owner of the tables:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f reconcile.sql
-- Another role needs BYPASSRLS, because a policy that hides rows would make faults of them, or hide faults; and
--   GRANT SELECT (account_id, remaining_credits, "timestamp") ON public.credits_usage TO ...;
--   GRANT SELECT (id, account_id, remaining_credits, created_at) ON public.credit_grants TO ...;
--   GRANT SELECT (account_id, created_at, credits_deducted_cents) ON public.usage_events TO ...;
--   GRANT SELECT (id, name) ON public.accounts TO ...;
-- The service's role has neither and never reads credits_usage.
--
-- Its limits. What else changes a wallet looks like a fault here:
--   * a refill or a top-up that is in neither table is an unexplained gain, and may hide a loss;
--   * an event of the very instant of the grant counts as before it. A created_at is the start of its transaction:
--     where one transaction both grants and charges, the charge is taken for part of the balance that was granted, and
--     where a transaction waited for another, the order of the two instants is not that of their effects;
--   * an event that was deleted since, or was given another date, is missing;
--   * of several wallet rows the one with the latest "timestamp" counts, at equal instants the smallest, and of several
--     grants of one instant the one with the greatest id: the tables do not say which is meant;
--   * an account with a wallet and no grant, or a grant and no wallet, is not listed: nothing to start from;
--   * wallet, grants and events must be in one unit.
-- So a row is a question, not yet an answer.

-- An error instead of a wrong list where row-level security would hide rows.
SET row_security = off;

WITH wallet AS (
    SELECT DISTINCT ON (account_id)
        account_id,
        remaining_credits
    FROM public.credits_usage
    ORDER BY account_id ASC, "timestamp" DESC, remaining_credits ASC
),

last_grant AS (
    SELECT DISTINCT ON (account_id)
        account_id,
        remaining_credits,
        created_at
    FROM public.credit_grants
    ORDER BY account_id ASC, created_at DESC, id DESC
),

balance AS (
    SELECT
        wallet.account_id,
        wallet.remaining_credits AS wallet_credits,
        last_grant.created_at AS last_grant_at,
        last_grant.remaining_credits AS granted_credits,
        coalesce(sum(usage_events.credits_deducted_cents), 0) AS credits_since,
        count(usage_events.created_at) AS event_count_since
    FROM wallet
    INNER JOIN last_grant ON last_grant.account_id = wallet.account_id
    LEFT JOIN public.usage_events
        ON usage_events.account_id = wallet.account_id AND usage_events.created_at > last_grant.created_at
    GROUP BY wallet.account_id, wallet.remaining_credits, last_grant.created_at, last_grant.remaining_credits
)

SELECT
    balance.account_id,
    accounts.name AS account_name,
    balance.last_grant_at,
    balance.granted_credits,
    balance.credits_since,
    balance.event_count_since,
    balance.granted_credits - balance.credits_since AS expected_credits,
    balance.wallet_credits,
    balance.granted_credits - balance.credits_since - balance.wallet_credits AS unexplained_credits
FROM balance
LEFT JOIN public.accounts ON accounts.id = balance.account_id
WHERE balance.granted_credits - balance.credits_since <> balance.wallet_credits
ORDER BY abs(balance.granted_credits - balance.credits_since - balance.wallet_credits) DESC, balance.account_id ASC;
