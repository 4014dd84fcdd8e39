-- reader_role: create or repair the role that the service connects as, its privileges, policies and limits.
--
-- Run it as a superuser, or as the owner of the tables with CREATEROLE; run it again after each upgrade of the service:
--   psql -X -v ON_ERROR_STOP=1 -v connection_limit=32 -d DATABASE -f reader_role.sql
-- Then set its password with `\password credits_reader`, or another authentication method in pg_hba.conf.
--
-- The role can read the columns that sql/queries names and nothing else. It can create nothing and owns nothing, and
-- its transactions are read-only by default. The script revokes everything else that was granted to it. Row-level
-- security is enabled on every table, so the role also needs a policy on each: without one it sees no rows. The script
-- does not change restrictive policies of others.
--
-- Privileges and limits are set in one transaction, which takes only ACCESS SHARE locks on tables. Creating a policy
-- takes an ACCESS EXCLUSIVE lock for an instant, so each has a transaction of its own, and a correct policy is left
-- alone: running the script again blocks nobody.
\set ON_ERROR_STOP on
-- hosts x WEB_CONCURRENCY x (POOL_SIZE + 1), and a few for DBAs: see "Connections" in sql/README.md
\if :{?connection_limit}
\else
\set connection_limit 32
\endif

-- Writers would queue behind a lock request that waits for a long query. After a lock timeout run the script again: it
-- continues where it stopped.
SET lock_timeout = '2s';
SET client_min_messages = warning;

BEGIN;

SELECT 'CREATE ROLE credits_reader LOGIN'
WHERE to_regrole('credits_reader') IS NULL
\gexec

SELECT format('ALTER ROLE credits_reader LOGIN CONNECTION LIMIT %s', :'connection_limit'::integer)
\gexec
-- Longer than the service's own timeouts: they apply when the service is gone or misconfigured.
ALTER ROLE credits_reader SET statement_timeout = '60s';
ALTER ROLE credits_reader SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE credits_reader SET default_transaction_read_only = on;
-- When the network to a client is cut, its backend stays and counts against the connection limit until the server gives
-- the connection up, by default after two hours. With these settings that takes about six seconds: keepalives detect it
-- on an idle connection, the user timeout on one with data on the way. They do nothing on Unix sockets.
ALTER ROLE credits_reader SET tcp_keepalives_idle = '3s';
ALTER ROLE credits_reader SET tcp_keepalives_interval = '1s';
ALTER ROLE credits_reader SET tcp_keepalives_count = 3;
ALTER ROLE credits_reader SET tcp_user_timeout = '6s';

-- Revoke what an earlier version of this script or a person granted: attributes, memberships, tables, columns, CREATE.
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

-- The sums, if sums.sql was run.
SELECT to_regclass('public.usage_sums') IS NOT NULL AS has_usage_sums
\gset
\if :has_usage_sums
GRANT SELECT (account_id, day, credits_deducted_cents, event_count) ON public.usage_sums TO credits_reader;
GRANT SELECT (account_id, credits_deducted_cents, event_count) ON public.usage_sums_total TO credits_reader;
GRANT SELECT (day) ON public.usage_sums_watermark TO credits_reader;
\endif

COMMIT;

-- DROP and CREATE are one query string, hence one transaction.
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

-- Privileges granted to PUBLIC cannot be revoked from one role. The script does not change them: it lists the
-- statements with which the owner of the database can.
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
-- Before PostgreSQL 16 a read-only transaction can create large objects, and the role would own them.
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC;', oid::regprocedure)
FROM pg_catalog.pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace
    AND proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_import')
    AND has_function_privilege('credits_reader', oid, 'EXECUTE');
