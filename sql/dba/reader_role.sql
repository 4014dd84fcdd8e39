-- reader_role: the role that the service connects as, and the policies it needs to see any row.
--
-- Run by a superuser, or by the owner of the tables if it may create roles; as often as you like, and again after an
-- upgrade of the service:
--   psql -X -v ON_ERROR_STOP=1 -v connection_limit=32 -d DATABASE -f reader_role.sql
-- Then give the role a password, `\password credits_reader`, or another way in by pg_hba.conf.
--
-- The role can read the columns that the files of sql/queries name, and nothing else: it may create nothing, owns
-- nothing, and every transaction of it is read-only unless it asks for another. What it was granted beyond that is
-- taken back. Row-level security is enabled on every table, so each needs a policy too: without one the role would
-- silently see no rows. A restrictive policy of somebody else still hides what it hides.
--
-- Rights and limits come in one transaction, which takes no lock on a table but a reader's. A policy needs its table
-- for itself, for an instant, when it is made: each is a transaction of its own, and one that is as it should be is not
-- touched, so that nobody notices when the script is run again.
\set ON_ERROR_STOP on
-- README.md does the sum: hosts x WEB_CONCURRENCY x (POOL_SIZE + 1), and a few for DBAs.
\if :{?connection_limit}
\else
\set connection_limit 32
\endif

-- Rather give up than stand in the way of the writers, who queue behind whoever waits for a long query: run the script
-- again later, it goes on where it stopped.
SET lock_timeout = '2s';
SET client_min_messages = warning;

BEGIN;

SELECT 'CREATE ROLE credits_reader LOGIN'
WHERE to_regrole('credits_reader') IS NULL
\gexec

SELECT format('ALTER ROLE credits_reader LOGIN CONNECTION LIMIT %s', :'connection_limit'::integer)
\gexec
-- Above the service's own limits: the last resort when it is gone or misconfigured.
ALTER ROLE credits_reader SET statement_timeout = '60s';
ALTER ROLE credits_reader SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE credits_reader SET default_transaction_read_only = on;

-- What an earlier version of this file, or somebody, gave it: attributes, memberships, tables and columns, CREATE.
SELECT 'ALTER ROLE credits_reader NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS'
FROM pg_catalog.pg_roles
WHERE rolname = 'credits_reader'
    AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)
\gexec

SELECT format('REVOKE %I FROM credits_reader GRANTED BY %I', pg_get_userbyid(roleid), pg_get_userbyid(grantor))
FROM pg_catalog.pg_auth_members
WHERE member = 'credits_reader'::regrole
\gexec

SELECT format('REVOKE ALL ON %s FROM credits_reader', relation.oid::regclass)
FROM pg_catalog.pg_class AS relation
WHERE 'credits_reader'::regrole IN (SELECT grantee FROM aclexplode(relation.relacl))
    OR EXISTS (
        SELECT
        FROM pg_catalog.pg_attribute
        CROSS JOIN LATERAL aclexplode(pg_attribute.attacl) AS entry
        WHERE pg_attribute.attrelid = relation.oid
            AND entry.grantee = 'credits_reader'::regrole
    )
\gexec

SELECT format('REVOKE CREATE ON SCHEMA %I FROM credits_reader', nspname)
FROM pg_catalog.pg_namespace
WHERE EXISTS (
        SELECT
        FROM aclexplode(nspacl)
        WHERE grantee = 'credits_reader'::regrole
            AND privilege_type = 'CREATE'
    )
\gexec

SELECT format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM credits_reader', datname)
FROM pg_catalog.pg_database
WHERE datname = current_database()
    AND EXISTS (
        SELECT
        FROM aclexplode(datacl)
        WHERE grantee = 'credits_reader'::regrole
            AND privilege_type IN ('CREATE', 'TEMPORARY')
    )
\gexec

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

-- The sums of closed days, where sums.sql has made them.
SELECT to_regclass('public.usage_sums') IS NOT NULL AS has_usage_sums
\gset
\if :has_usage_sums
GRANT SELECT (account_id, day, credits_deducted_cents, event_count) ON public.usage_sums TO credits_reader;
GRANT SELECT (account_id, credits_deducted_cents, event_count) ON public.usage_sums_total TO credits_reader;
GRANT SELECT (day) ON public.usage_sums_watermark TO credits_reader;
\endif

COMMIT;

-- both in one transaction
SELECT
    format(
        'DROP POLICY IF EXISTS credits_reader ON public.%1$I; '
        'CREATE POLICY credits_reader ON public.%1$I FOR SELECT TO credits_reader USING (true)',
        relation.relname
    )
FROM pg_catalog.pg_class AS relation
LEFT JOIN pg_catalog.pg_policies AS policy
    ON policy.schemaname = 'public' AND policy.tablename = relation.relname AND policy.policyname = 'credits_reader'
WHERE relation.relnamespace = 'public'::regnamespace
    AND relation.relname IN (
        'account_api_keys',
        'account_emails',
        'account_organization_ids',
        'accounts',
        'credit_grants',
        'usage_sums',
        'usage_sums_total',
        'usage_sums_watermark',
        'usage_events'
    )
    AND (policy.permissive, policy.cmd, policy.roles::text[], policy.qual)
    IS DISTINCT FROM ('PERMISSIVE', 'SELECT', ARRAY['credits_reader'], 'true')
ORDER BY relation.relname ASC
\gexec

-- What every role has through PUBLIC cannot be taken from one role. This script changes nobody else's rights:
-- it lists what the owner of the database may want to revoke.
SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC;', current_database()) AS still_open_to_every_role
WHERE has_database_privilege('credits_reader', current_database(), 'TEMPORARY')
UNION ALL
SELECT format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC;', nspname)
FROM pg_catalog.pg_namespace
WHERE has_schema_privilege('credits_reader', oid, 'CREATE')
UNION ALL
SELECT format('REVOKE ALL ON %s FROM PUBLIC;', oid::regclass)
FROM pg_catalog.pg_class
WHERE relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')
    AND 0 IN (SELECT grantee FROM aclexplode(relacl))
UNION ALL
-- A large object belongs to whoever makes it, and before PostgreSQL 16 a read-only transaction can make one.
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC;', oid::regprocedure)
FROM pg_catalog.pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace
    AND proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_import')
    AND has_function_privilege('credits_reader', oid, 'EXECUTE');
