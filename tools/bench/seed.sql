-- seed: accounts and their events, spread evenly over the days before now.
--
-- Parameters: accounts, events, days, admin, organization, key_hash

-- Foreign keys are not checked.
SET session_replication_role = replica;
CREATE FUNCTION pg_temp.account(rank integer) RETURNS uuid LANGUAGE sql IMMUTABLE
AS 'SELECT md5(''account '' || rank)::uuid';

INSERT INTO public.accounts (id, name)
SELECT
    pg_temp.account(n) AS id,
    'Account ' || n AS name
FROM generate_series(1, :accounts) AS n
UNION ALL
VALUES (:'admin'::uuid, 'The admin'), (:'organization'::uuid, 'The platform');
INSERT INTO public.account_api_keys (name, account, key_hash) VALUES ('The key', :'admin', :'key_hash');
INSERT INTO public.account_organization_ids (account_id, organization_id) VALUES (:'admin', :'organization');
INSERT INTO public.account_emails (account_id, email, updated_at)
SELECT
    pg_temp.account(n) AS account_id,
    format('%s@%s.example', k, n) AS email,
    timestamptz '2026-01-01' + k * interval '1 day' AS updated_at
FROM generate_series(1, :accounts) AS n
CROSS JOIN generate_series(1, 2) AS k;

-- In order of time, as an append-only table is filled. Account and credits are hashes of the event's number.
INSERT INTO public.usage_events (id, account_id, provider, model_id, created_at, credits_deducted_cents)
SELECT
    'evt_' || n AS id,
    -- Zipf's law, approximately: the share of the k-th account is in proportion to 1 / k.
    pg_temp.account(floor(exp(
        (hashint8extended(n, 8) & 9007199254740991) / 9007199254740992.0::float8 * ln(:accounts + 1)
    ))::integer) AS account_id,
    'provider ' || n % 5 AS provider,
    'model ' || n % 40 AS model_id,
    now() - make_interval(secs => (:events - n) * 86400.0 * :days / :events) AS created_at,
    1 + abs(hashint8extended(n, 9) % 200) AS credits_deducted_cents
FROM generate_series(1::bigint, :events) AS n;
