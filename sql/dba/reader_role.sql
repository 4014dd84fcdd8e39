-- reader_role: create or repair the role that the service connects as, its privileges, policies and limits.
--
-- Run it as the owner of the tables with CREATEROLE, or as a superuser; run it again, as the same role, after each upgrade
-- of the service:
--   psql -X -v ON_ERROR_STOP=1 -v connection_limit=32 -d DATABASE -f reader_role.sql
-- Then set its password with `\password credits_reader`, or another authentication method in pg_hba.conf.
--
-- The role gets SELECT on the columns that sql/queries names, and a policy on each table: row-level security is enabled
-- on all of them, and a role without a policy sees no rows. The script does not change restrictive policies of others.
--
-- It revokes everything else that was given to the role, in this database or in all: attributes, memberships, settings,
-- default privileges, and privileges except CONNECT. It stops if the role owns something, or has a privilege that another
-- role than the owner of the object granted.
--
-- The role can also do what every role can: connect, read the system catalogs, and run functions with its own rights.
-- A privilege of PUBLIC that goes beyond that cannot be revoked from one role. The script leaves these alone and prints
-- statements with which their owners can revoke them. It lists
--   * the privileges that neither initdb nor an extension gave;
--   * some that every role has by default: to make temporary tables and large objects, to write messages to the WAL, to
--     take advisory locks, and to execute functions that are SECURITY DEFINER or, outside of extensions, in an untrusted
--     language.
-- Before you run the statements, grant the privileges to the roles that need them: tools for migrations often take
-- advisory locks. SECURITY DEFINER functions matter most: they run with the rights of their owner, so they can write.
-- PUBLIC may execute every new function, so run the script again when there are new ones. Transactions of the role are
-- read-only by default, but a session can change that; the service does not.
--
-- Privileges and limits are set in one transaction, which takes only ACCESS SHARE locks on tables. Creating a policy
-- takes an ACCESS EXCLUSIVE lock for an instant, in a transaction of its own. A correct policy is left alone, so running
-- the script again blocks nobody.
\set ON_ERROR_STOP on
-- hosts x WEB_CONCURRENCY x (POOL_SIZE + 1), and a few for DBAs: see "Connections" in sql/README.md
\if :{?connection_limit}
\else
\set connection_limit 32
\endif

-- Names without a schema are those of PostgreSQL, also where other roles may create objects in schema public.
SET search_path = pg_catalog, pg_temp;
-- Writers would queue behind a lock request that waits for a long query. After a lock timeout run the script again: it
-- continues where it stopped.
SET lock_timeout = '2s';
SET client_min_messages = warning;

BEGIN;

-- The schema of the sums must belong to the owner of usage_events, to a superuser or to this role.
-- Code of another role would run with the rights of this one.
\set SHOW_CONTEXT never
SELECT format('DO %L', format('BEGIN RAISE USING MESSAGE = %L; END', finding))
FROM pg_catalog.pg_namespace AS schema
INNER JOIN pg_catalog.pg_class AS events ON events.oid = 'public.usage_events'::regclass
INNER JOIN pg_catalog.pg_roles AS owner ON owner.oid = schema.nspowner
CROSS JOIN LATERAL format('stopped: schema usage_sums belongs to %s', owner.rolname) AS finding
WHERE schema.nspname = 'usage_sums'
    AND owner.oid <> events.relowner
    AND owner.rolname <> current_user
    AND NOT owner.rolsuper
\gexec

SELECT 'CREATE ROLE credits_reader LOGIN'
WHERE to_regrole('credits_reader') IS NULL
\gexec

-- NOINHERIT, so that a membership does not apply the restrictive policies of a group.
SELECT format('ALTER ROLE credits_reader LOGIN NOINHERIT CONNECTION LIMIT %s', :'connection_limit'::integer)
\gexec
ALTER ROLE credits_reader RESET ALL;
SELECT format('ALTER ROLE credits_reader IN DATABASE %I RESET ALL', current_database())
\gexec
-- Longer than the timeouts of the service by default. They apply when the service is gone or misconfigured.
ALTER ROLE credits_reader SET statement_timeout = '60s';
ALTER ROLE credits_reader SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE credits_reader SET default_transaction_read_only = on;
-- The queries depend on these: see "Settings that a result depends on" in sql/README.md.
ALTER ROLE credits_reader SET default_transaction_isolation = 'read committed';
ALTER ROLE credits_reader SET default_transaction_deferrable = off;
ALTER ROLE credits_reader SET standard_conforming_strings = on;
-- When the network to a client is cut, its backend stays and counts against the connection limit until the server gives
-- the connection up, by default after two hours, with these settings after about six seconds. Keepalives detect a cut on
-- an idle connection, the user timeout on one with data under way. They have no effect on Unix sockets.
ALTER ROLE credits_reader SET tcp_keepalives_idle = '3s';
ALTER ROLE credits_reader SET tcp_keepalives_interval = '1s';
ALTER ROLE credits_reader SET tcp_keepalives_count = 3;
ALTER ROLE credits_reader SET tcp_user_timeout = '6s';

-- Revoke what an earlier version of this script or a person gave to the role.
SELECT 'ALTER ROLE credits_reader NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS'
FROM pg_catalog.pg_roles
WHERE rolname = 'credits_reader'
    AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)
\gexec

SELECT format('REVOKE %I FROM credits_reader GRANTED BY %I', pg_get_userbyid(roleid), pg_get_userbyid(grantor))
FROM pg_catalog.pg_auth_members
WHERE member = 'credits_reader'::regrole
\gexec

SELECT DISTINCT
    CASE
        WHEN object.type = 'default acl'
            THEN 'ALTER DEFAULT PRIVILEGES ' || regexp_replace(object.identity, ' on (?=[a-z ]+$)', ' REVOKE ALL ON ')
        -- not CONNECT
        WHEN object.type = 'database' THEN 'REVOKE CREATE, TEMPORARY ON DATABASE ' || object.identity
        WHEN depend.classid = 'pg_class'::regclass THEN 'REVOKE ALL ON TABLE ' || object.identity
        WHEN depend.classid = 'pg_proc'::regclass THEN 'REVOKE ALL ON ROUTINE ' || object.identity
        WHEN object.type = 'server' THEN 'REVOKE ALL ON FOREIGN SERVER ' || object.identity
        WHEN object.type = 'parameter ACL' THEN 'REVOKE ALL ON PARAMETER ' || object.identity
        ELSE format('REVOKE ALL ON %s %s', replace(object.type, '-', ' '), object.identity)
    END || ' FROM credits_reader CASCADE'
FROM pg_catalog.pg_shdepend AS depend
INNER JOIN pg_catalog.pg_database
    ON pg_database.datname = current_database() AND depend.dbid IN (0, pg_database.oid)
CROSS JOIN LATERAL pg_identify_object(depend.classid, depend.objid, 0) AS object
WHERE (depend.refclassid, depend.refobjid) = ('pg_authid'::regclass, 'credits_reader'::regrole)
    AND depend.deptype = 'a'
\gexec

-- An owner can do anything with an object. A privilege can only be revoked by the role that granted it.
DO $$
DECLARE
    rest text := (
        SELECT string_agg(DISTINCT pg_describe_object(depend.classid, depend.objid, 0), ', ')
        FROM pg_catalog.pg_shdepend AS depend
        INNER JOIN pg_catalog.pg_database
            ON pg_database.datname = current_database() AND depend.dbid IN (0, pg_database.oid)
        WHERE (depend.refclassid, depend.refobjid) = ('pg_authid'::regclass, 'credits_reader'::regrole)
            AND (depend.deptype = 'o' OR (depend.deptype = 'a' AND depend.classid <> 'pg_database'::regclass))
    );
BEGIN
    IF rest IS NOT NULL THEN
        RAISE 'credits_reader owns these objects, or another role than their owner granted it privileges: %', rest;
    END IF;
END
$$;

-- Newer databases call the column credits_deducted_cents credits_deducted. While both exist, the older one counts.
SELECT coalesce(max(attname::text COLLATE "C"), 'credits_deducted_cents') AS credits_column
FROM pg_catalog.pg_attribute
WHERE attrelid = 'public.usage_events'::regclass AND attname IN ('credits_deducted_cents', 'credits_deducted')
\gset

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
    :"credits_column"
) ON public.usage_events TO credits_reader;
-- During a migration both columns exist. With this the service can read when the older one is dropped.
SELECT 'GRANT SELECT (credits_deducted) ON public.usage_events TO credits_reader'
FROM pg_catalog.pg_attribute
WHERE attrelid = 'public.usage_events'::regclass AND attname = 'credits_deducted'
\gexec

GRANT SELECT (
    id, account_id, granted_by, reason, previous_credits, remaining_credits, created_at
) ON public.credit_grants TO credits_reader;

-- The sums, if sums.sql was run.
SELECT to_regclass('usage_sums.ledger') IS NOT NULL AS has_sums
\gset
\if :has_sums
GRANT USAGE ON SCHEMA usage_sums TO credits_reader;
GRANT SELECT (account_id, day, credits_deducted_cents, event_count) ON usage_sums.days TO credits_reader;
GRANT SELECT (window_id, account_id, credits_deducted_cents, event_count) ON usage_sums.accounts TO credits_reader;
GRANT SELECT (
    day, model_id, provider, source, agent_type, credits_deducted_cents, event_count, input_tokens, cached_input_tokens,
    output_tokens, tool_call_count
) ON usage_sums.keys TO credits_reader;
GRANT SELECT (
    sign, account_id, created_at, model_id, provider, source, agent_type, credits_deducted_cents, input_tokens,
    cached_input_tokens, output_tokens, tool_call_count
) ON usage_sums.late TO credits_reader;
GRANT EXECUTE ON FUNCTION usage_sums.cover(timestamptz, timestamptz, text), usage_sums.unusable()
TO credits_reader;
\endif

COMMIT;

-- \gexec runs each column as a statement. Citus refuses several statements in one.
SELECT
    'BEGIN' AS statement_1,
    format('DROP POLICY IF EXISTS credits_reader ON %s', relation.oid::regclass) AS statement_2,
    format(
        'CREATE POLICY credits_reader ON %s FOR SELECT TO credits_reader USING (true)', relation.oid::regclass
    ) AS statement_3,
    'COMMIT' AS statement_4
FROM pg_catalog.pg_class AS relation
LEFT JOIN pg_catalog.pg_policies AS policy
    ON to_regclass(format('%I.%I', policy.schemaname, policy.tablename)) = relation.oid
        AND policy.policyname = 'credits_reader'
WHERE relation.oid IN (
        to_regclass('public.account_api_keys'),
        to_regclass('public.account_emails'),
        to_regclass('public.account_organization_ids'),
        to_regclass('public.accounts'),
        to_regclass('public.credit_grants'),
        to_regclass('public.usage_events'),
        to_regclass('usage_sums.accounts'),
        to_regclass('usage_sums.days'),
        to_regclass('usage_sums.keys')
    )
    AND (policy.permissive, policy.cmd, policy.roles::text[], policy.qual)
    IS DISTINCT FROM ('PERMISSIVE', 'SELECT', ARRAY['credits_reader'], 'true')
ORDER BY relation.relname ASC
\gexec

-- Print what PUBLIC may do, as statements that revoke it: see the header.
WITH object (class, id, part, owner, acl) AS (
    SELECT
        tableoid AS class,
        oid AS id,
        0 AS part,
        datdba AS owner,
        coalesce(datacl, acldefault('d', datdba)) AS acl
    FROM pg_catalog.pg_database
    WHERE datname = current_database()
    UNION ALL
    SELECT
        tableoid AS class,
        oid AS id,
        0 AS part,
        nspowner AS owner,
        nspacl AS acl
    FROM pg_catalog.pg_namespace
    UNION ALL
    SELECT
        tableoid AS class,
        oid AS id,
        0 AS part,
        relowner AS owner,
        relacl AS acl
    FROM pg_catalog.pg_class
    UNION ALL
    SELECT
        pg_class.tableoid AS class,
        pg_class.oid AS id,
        pg_attribute.attnum AS part,
        pg_class.relowner AS owner,
        pg_attribute.attacl AS acl
    FROM pg_catalog.pg_class
    INNER JOIN pg_catalog.pg_attribute ON pg_attribute.attrelid = pg_class.oid AND NOT pg_attribute.attisdropped
    UNION ALL
    SELECT
        tableoid AS class,
        oid AS id,
        0 AS part,
        proowner AS owner,
        coalesce(proacl, acldefault('f', proowner)) AS acl
    FROM pg_catalog.pg_proc
    UNION ALL
    SELECT
        'pg_largeobject'::regclass AS class,
        oid AS id,
        0 AS part,
        lomowner AS owner,
        lomacl AS acl
    FROM pg_catalog.pg_largeobject_metadata
    UNION ALL
    SELECT
        tableoid AS class,
        oid AS id,
        0 AS part,
        fdwowner AS owner,
        fdwacl AS acl
    FROM pg_catalog.pg_foreign_data_wrapper
    UNION ALL
    SELECT
        tableoid AS class,
        oid AS id,
        0 AS part,
        srvowner AS owner,
        srvacl AS acl
    FROM pg_catalog.pg_foreign_server
    UNION ALL
    SELECT
        tableoid AS class,
        oid AS id,
        0 AS part,
        spcowner AS owner,
        spcacl AS acl
    FROM pg_catalog.pg_tablespace
    UNION ALL
    SELECT
        tableoid AS class,
        oid AS id,
        0 AS part,
        -- the superuser that initdb created
        10 AS owner,
        paracl AS acl
    FROM pg_catalog.pg_parameter_acl
),

-- The functions that are listed although PUBLIC may execute them by default.
routine (id) AS (
    SELECT pg_proc.oid
    FROM pg_catalog.pg_proc
    INNER JOIN pg_catalog.pg_language ON pg_language.oid = pg_proc.prolang
    WHERE pg_proc.prosecdef
        -- In an untrusted language, except those of PostgreSQL, extensions and range types, and aggregates.
        OR (
            NOT pg_language.lanpltrusted
            AND pg_proc.oid >= 16384
            AND pg_proc.prokind <> 'a'
            AND NOT EXISTS (
                SELECT
                FROM pg_catalog.pg_depend
                WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype IN ('e', 'i')
            )
        )
        -- Before PostgreSQL 16 a read-only transaction can create large objects, and the role would own them. The other
        -- functions fill the disk with WAL, and the shared memory with locks.
        OR (
            pg_proc.pronamespace = 'pg_catalog'::regnamespace
            AND pg_proc.proname ~ '^(lo_creat|lo_from_bytea|pg_logical_emit_message|pg_(try_)?advisory_(xact_)?lock)'
        )
)

SELECT
    format(
        CASE entry.grantor
            WHEN object.owner THEN 'REVOKE %s ON %s %s FROM PUBLIC;'
            ELSE 'SET ROLE %4$s; REVOKE %1$s ON %2$s %3$s FROM PUBLIC; RESET ROLE;'
        END,
        string_agg(
            entry.privilege_type || coalesce(' (' || quote_ident(pg_attribute.attname) || ')', ''),
            ', ' ORDER BY entry.privilege_type
        ),
        CASE
            WHEN described.type = 'sequence' THEN 'SEQUENCE'
            WHEN object.class = 'pg_class'::regclass THEN 'TABLE'
            WHEN object.class = 'pg_proc'::regclass THEN 'ROUTINE'
            WHEN described.type = 'server' THEN 'FOREIGN SERVER'
            WHEN described.type = 'parameter ACL' THEN 'PARAMETER'
            ELSE upper(replace(described.type, '-', ' '))
        END,
        described.identity,
        entry.grantor::regrole
    ) AS still_open_to_every_role
FROM object
CROSS JOIN LATERAL aclexplode(object.acl) AS entry
CROSS JOIN LATERAL pg_identify_object(object.class, object.id, 0) AS described
LEFT JOIN pg_catalog.pg_attribute ON pg_attribute.attrelid = object.id AND pg_attribute.attnum = object.part
-- the privileges that initdb or the extension gave
LEFT JOIN pg_catalog.pg_init_privs AS untouched
    ON untouched.classoid = object.class AND untouched.objoid = object.id AND untouched.objsubid = object.part
WHERE entry.grantee = 0
    AND (
        (object.class = 'pg_proc'::regclass AND object.id IN (SELECT routine.id FROM routine))
        OR NOT EXISTS (
            SELECT
            -- By default PUBLIC may execute functions, and nothing else that is listed here.
            FROM aclexplode(coalesce(untouched.initprivs, acldefault('f', object.owner))) AS initial
            WHERE initial.grantee = 0 AND initial.privilege_type = entry.privilege_type
        )
    )
    AND NOT (object.class = 'pg_database'::regclass AND entry.privilege_type = 'CONNECT')
    AND NOT (object.class = 'pg_namespace'::regclass AND entry.privilege_type = 'USAGE')
    AND (described.schema, entry.privilege_type) IS DISTINCT FROM ('information_schema', 'SELECT')
GROUP BY object.class, object.owner, entry.grantor, described.type, described.identity
UNION ALL
SELECT
    'ALTER DEFAULT PRIVILEGES '
    || regexp_replace(object.identity, ' on (?=[a-z ]+$)', ' REVOKE ALL ON ')
    || ' FROM PUBLIC;'
FROM pg_catalog.pg_default_acl
CROSS JOIN LATERAL pg_identify_object('pg_default_acl'::regclass, pg_default_acl.oid, 0) AS object
WHERE pg_default_acl.defaclobjtype <> 'T'
    -- without a schema it is the default, that every role may execute functions
    AND (pg_default_acl.defaclobjtype <> 'f' OR pg_default_acl.defaclnamespace <> 0)
    AND 0 IN (SELECT grantee FROM aclexplode(pg_default_acl.defaclacl))
ORDER BY still_open_to_every_role ASC;
