SET LOCAL search_path = pg_catalog, pg_temp\;
-- fingerprint: a text that changes when the owner of the tables changes what the queries can read, and the server.
--
-- Parameters: none
-- Columns: fingerprint, server, is_standby
-- Order:   one row
-- psql -X -q -v ON_ERROR_STOP=1 -f fingerprint.sql
--
-- The service reads it before and after each snapshot, because a snapshot does not cover a table that is rewritten, and
-- privileges and policies always apply as they are now. Every change of a catalog row gives it a new xmin, also a change
-- that is later undone: so the text names no definitions. VACUUM, ANALYZE and CREATE INDEX update rows in place and
-- keep xmin.
WITH relation AS MATERIALIZED (
    SELECT
        oid,
        xmin,
        relhassubclass
    FROM pg_catalog.pg_class
    WHERE relnamespace IN (to_regnamespace('public'), to_regnamespace('usage_sums'))
        AND relname IN (
            -- public
            'account_api_keys', 'account_emails', 'account_organization_ids', 'accounts', 'credit_grants',
            'usage_events',
            -- usage_sums, which has accounts too
            'days', 'keys', 'late', 'ledger', 'watermark', 'windows'
        )
)

SELECT
    concat_ws(
        ' ',
        -- tables: rewritten, renamed, granted or revoked
        ARRAY(SELECT xmin FROM relation),
        -- columns
        ARRAY(
            SELECT xmin
            FROM pg_catalog.pg_attribute
            WHERE attrelid = ANY(ARRAY(SELECT relation.oid FROM relation)) AND attnum > 0
        ),
        ARRAY(
            SELECT xmin
            FROM pg_catalog.pg_policy
            WHERE polrelid = ANY(ARRAY(SELECT relation.oid FROM relation))
        ),
        -- partitions: attached, detached or rewritten
        ARRAY(
            SELECT concat(xmin, '/', pg_relation_filenode(inhrelid))
            FROM pg_catalog.pg_inherits
            WHERE (SELECT bool_or(relation.relhassubclass) FROM relation)
        ),
        -- functions of the sums: replaced, granted or revoked
        ARRAY(
            SELECT xmin
            FROM pg_catalog.pg_proc
            WHERE proname IN ('columns', 'cover', 'obstacle', 'token', 'unusable')
                AND pronamespace = to_regnamespace('usage_sums')
        ),
        -- memberships of this role and of the roles that it is a member of, the rights in the schema, and whether
        -- policies apply to this role
        ARRAY(
            SELECT xmin
            FROM pg_catalog.pg_auth_members
            WHERE pg_has_role(member, 'MEMBER')
        ),
        (
            SELECT xmin
            FROM pg_catalog.pg_namespace
            WHERE nspname = 'public'
        ),
        (
            SELECT xmin
            FROM pg_catalog.pg_namespace
            WHERE nspname = 'usage_sums'
        ),
        (SELECT bool_or(row_security_active(relation.oid)) FROM relation)
    ) AS fingerprint,
    -- a pooler may have several servers behind one name
    concat_ws(' ', inet_server_addr(), inet_server_port(), extract(EPOCH FROM pg_postmaster_start_time())) AS server,
    pg_is_in_recovery() AS is_standby;
