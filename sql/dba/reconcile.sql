-- reconcile: list the accounts whose wallet disagrees with their events.
--
-- The expected balance is the latest grant minus the credits of the events since. The script compares it with
-- credits_usage.remaining_credits for each account that has both a wallet and a grant. Only this comparison finds a
-- charge that reduced a wallet and left no event.
--
-- Columns: account_id, account_name, last_grant_at, granted_credits, credits_since, event_count_since,
--   expected_credits, wallet_credits, unexplained_credits (missing from the wallet; negative: surplus)
-- Order:   largest difference first; account_id settles ties
-- No rows mean that all accounts agree.
--
-- It is read-only. Run it as the owner of the tables:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f reconcile.sql
-- Another role needs BYPASSRLS, because a policy that hides rows would add or hide differences, and
--   GRANT SELECT (account_id, remaining_credits, "timestamp") ON public.credits_usage TO ...;
--   GRANT SELECT (id, account_id, remaining_credits, created_at) ON public.credit_grants TO ...;
--   GRANT SELECT (account_id, created_at, credits_deducted_cents) ON public.usage_events TO ...; -- or credits_deducted
--   GRANT SELECT (id, name) ON public.accounts TO ...;
-- The service never reads credits_usage, and its role has none of these.
--
-- A row does not prove a fault. Limits of the comparison:
--   * a refill or top-up that is in neither table is an unexplained gain, and can hide a loss;
--   * an event at the same instant as the grant counts as before it. created_at is the start of the transaction, so a
--     charge in the transaction of the grant counts as before it, and transactions that waited for each other can be
--     dated in the wrong order;
--   * events that were deleted or redated since are missing;
--   * of several wallet rows the latest "timestamp" counts (null is the earliest), then the smallest balance; of several
--     grants at one instant the greatest id. The tables do not say which is right;
--   * an account with only a wallet or only a grant is not listed;
--   * wallet, grants and events must be in the same unit.

\set ON_ERROR_STOP on

-- Names without a schema are those of PostgreSQL, also where other roles may create objects in schema public.
SET search_path = pg_catalog, pg_temp;
-- Raise an error if row-level security would hide rows.
SET row_security = off;

-- The tables must belong to the owner of usage_events, to a superuser or to this role. A view of another role could run
-- its code with the rights of this one.
\set SHOW_CONTEXT never
SELECT format('DO %L', format('BEGIN RAISE USING MESSAGE = %L; END', finding))
FROM pg_catalog.pg_class AS relation
INNER JOIN pg_catalog.pg_class AS events ON events.oid = 'public.usage_events'::regclass
INNER JOIN pg_catalog.pg_roles AS owner ON owner.oid = relation.relowner
CROSS JOIN LATERAL format('stopped: %s belongs to %s', relation.oid::regclass, owner.rolname) AS finding
WHERE relation.oid IN ('public.accounts'::regclass, 'public.credit_grants'::regclass, 'public.credits_usage'::regclass)
    AND owner.oid <> events.relowner
    AND owner.rolname <> current_user
    AND NOT owner.rolsuper
\gexec

-- Newer databases call the column credits_deducted_cents credits_deducted. While both exist, the older one counts.
SELECT coalesce(max(attname::text COLLATE "C"), 'credits_deducted_cents') AS credits_column
FROM pg_catalog.pg_attribute
WHERE attrelid = 'public.usage_events'::regclass AND attname IN ('credits_deducted_cents', 'credits_deducted')
\gset

WITH wallet AS (
    SELECT DISTINCT ON (account_id)
        account_id,
        remaining_credits
    FROM public.credits_usage
    ORDER BY account_id ASC, "timestamp" DESC NULLS LAST, remaining_credits ASC
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
        coalesce(sum(usage_events.:"credits_column"), 0) AS credits_since,
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
