-- seed: accounts and their events over a year, as many events on each day.
--
-- Parameters: accounts, events, days, admin, organization, key_hash

-- Foreign keys are not checked.
SET session_replication_role = replica;
SET maintenance_work_mem = '512MB';
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

-- Building an index is faster than keeping it up to date.
ALTER TABLE public.usage_events DROP CONSTRAINT usage_events_pkey;
DROP INDEX public.usage_events_account_id_created_at_idx, public.usage_events_model_id_idx;

-- In order of time, as an append-only table is filled. Account and credits are hashes of the event's number.
INSERT INTO public.usage_events (id, account_id, created_at, credits_deducted_cents)
SELECT
    'evt_' || event.n AS id,
    -- Zipf's law, approximately: the share of the k-th account is in proportion to 1 / k.
    pg_temp.account(floor(exp(
        (hashint8extended(event.n, 8) & 9007199254740991) / 9007199254740992.0::float8 * ln(:accounts + 1)
    ))::integer) AS account_id,
    today.midnight - (:days - 1 - floor(event.day)) * interval '1 day' + (event.day - floor(event.day))
    * CASE WHEN event.day >= :days - 1 THEN now() - today.midnight ELSE interval '1 day' END AS created_at,
    1 + abs(hashint8extended(event.n, 9) % 200) AS credits_deducted_cents
FROM (
    SELECT
        n,
        (n - 0.5)::float8 / :events * :days AS day
    FROM generate_series(1, :events) AS n
) AS event
CROSS JOIN (SELECT date_trunc('day', now(), 'UTC') AS midnight) AS today;

ALTER TABLE public.usage_events ADD PRIMARY KEY (id);
CREATE INDEX usage_events_account_id_created_at_idx ON public.usage_events (account_id, created_at);
CREATE INDEX usage_events_model_id_idx ON public.usage_events (model_id) WHERE model_id IS NOT NULL;
