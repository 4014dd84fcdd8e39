-- reader_role: the role that the service connects as, and the policies it needs to see any row.
--
-- Run by a superuser or the owner of the tables, as often as you like, and again after an upgrade of the service:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f reader_role.sql
-- Then give it a password, `\password credits_reader`, or another way in by pg_hba.conf.
--
-- The role can read the columns that the files of sql/queries name, and nothing else: it has no other privilege, owns
-- nothing, and every transaction of it is read-only unless it asks for another. Row-level security is enabled on every
-- table, so each needs a policy too: without one the role would silently see no rows.

BEGIN;

-- A policy needs its table for itself: rather give up than stand in the way of the writers behind a long query.
SET LOCAL lock_timeout = '5s';

SELECT 'CREATE ROLE credits_reader LOGIN'
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'credits_reader')
\gexec

-- README.md does the sum: hosts x WEB_CONCURRENCY x (POOL_SIZE + 1), and a few for DBAs.
ALTER ROLE credits_reader CONNECTION LIMIT 32;
-- Above the service's own limits: the last resort when it is gone or misconfigured.
ALTER ROLE credits_reader SET statement_timeout = '60s';
ALTER ROLE credits_reader SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE credits_reader SET default_transaction_read_only = on;

-- What an earlier version of this file granted and no query names any more.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM credits_reader;
GRANT USAGE ON SCHEMA public TO credits_reader;
GRANT SELECT (id, name) ON public.accounts TO credits_reader;
GRANT SELECT (account_id, email, updated_at) ON public.account_emails TO credits_reader;
GRANT SELECT (account, key_hash, expires_at) ON public.account_api_keys TO credits_reader;
GRANT SELECT (account_id, organization_id) ON public.account_organization_ids TO credits_reader;
GRANT SELECT (
    id,
    account_id,
    source,
    agent_type,
    provider,
    model_id,
    input_tokens,
    cached_input_tokens,
    output_tokens,
    tool_call_count,
    created_at,
    credits_deducted_cents
) ON public.usage_events TO credits_reader;
GRANT SELECT (
    id, account_id, granted_by, reason, previous_credits, remaining_credits, created_at
) ON public.credit_grants TO credits_reader;

-- Made only where it is missing, so that running this again locks nothing.
SELECT format('CREATE POLICY credits_reader ON public.%I FOR SELECT TO credits_reader USING (true)', relation.relname)
FROM pg_catalog.pg_class AS relation
WHERE relation.relnamespace = 'public'::regnamespace
    AND relation.relname IN (
        'accounts',
        'account_emails',
        'account_api_keys',
        'account_organization_ids',
        'usage_events',
        'credit_grants'
    )
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_policy
        WHERE pg_policy.polrelid = relation.oid AND pg_policy.polname = 'credits_reader'
    )
\gexec

COMMIT;

-- What every role has through PUBLIC cannot be taken from one role. This script changes nobody else's rights:
-- it lists what the owner of the database may want to revoke.
SELECT 'REVOKE TEMPORARY ON DATABASE ' || quote_ident(current_database()) || ' FROM PUBLIC;' AS still_open_to_every_role
WHERE has_database_privilege('credits_reader', current_database(), 'TEMPORARY')
UNION ALL
SELECT 'REVOKE CREATE ON SCHEMA public FROM PUBLIC;'
WHERE has_schema_privilege('credits_reader', 'public', 'CREATE');
