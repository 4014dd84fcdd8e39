SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_account: name and primary address of one account.
--
-- Parameters
--   :account_id  uuid  the account
-- Columns: account_id, account_name, account_email
-- Order:   at most one row; no row if there is no such account
-- psql -X -q -v ON_ERROR_STOP=1 -v account_id=3c90c3cc-0d44-4b50-8888-8dd25736052a -f credits_account.sql
SELECT
    accounts.id AS account_id,
    accounts.name AS account_name,
    address.email AS account_email
FROM public.accounts
LEFT JOIN (
    SELECT
        account_id,
        email
    FROM public.account_emails
    WHERE account_id = :'account_id'::uuid AND email IS NOT NULL
    ORDER BY updated_at DESC, email COLLATE "C" ASC
    LIMIT 1
) AS address ON address.account_id = accounts.id
WHERE accounts.id = :'account_id'::uuid;
