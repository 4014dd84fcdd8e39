SET LOCAL search_path = pg_catalog, pg_temp\;
-- caller: the time of the request, the owner of its key, and whether the owner is an admin.
--
-- Parameters
--   :key_hash         text  hex(HMAC-SHA256(API_KEY_SECRET, key)), then with API_KEY_SECRET_PREVIOUS if that is unknown
--   :organization_id  uuid  the admin organisation
-- Columns: now, account_id, is_admin
-- Order:   one row always; account_id is null for a key that is unknown, expired or without an account
-- psql -X -q -v ON_ERROR_STOP=1 -v key_hash=0123abcd -v organization_id=04e3aba9-c130-4fb8-8b92-34e95d43e66b \
--   -f caller.sql
SELECT
    instant.now,
    caller.account_id,
    coalesce(caller.is_admin, false) AS is_admin
-- not now(): BEGIN is sent earlier, so now() could precede a row in the snapshot
FROM (SELECT statement_timestamp() AS now) AS instant
LEFT JOIN LATERAL (
    SELECT
        account_api_keys.account AS account_id,
        account_api_keys.account = :'organization_id'::uuid
        OR EXISTS (
            SELECT 1
            FROM public.account_organization_ids
            WHERE account_organization_ids.account_id = account_api_keys.account
                AND account_organization_ids.organization_id = :'organization_id'::uuid
        ) AS is_admin
    FROM public.account_api_keys
    WHERE account_api_keys.key_hash = :'key_hash'::text
        AND account_api_keys.account IS NOT NULL
        AND (account_api_keys.expires_at IS NULL OR account_api_keys.expires_at > instant.now)
    -- if several rows have this hash, one that qualifies is enough
    ORDER BY is_admin DESC, account_id ASC
    LIMIT 1
) AS caller ON true;
