-- citus: distribute the tables over the nodes of a Citus cluster.
--
-- It needs Citus 13.1 or newer: older versions do not propagate column privileges to the shards. Run it on the
-- coordinator as a superuser, while nobody writes, after reader_role.sql, indexes.sql and, if used, sums.sql. It may be
-- run again; run it again after sums.sql has created tables. docs/measured.md says what was tried on Citus. Try it on a
-- copy first.
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f citus.sql
--
-- accounts is distributed by id; account_emails, usage_events, usage_sums and usage_sums_window are distributed by
-- account_id and co-located with it. usage_sums_watermark is a reference table. The other tables are small, are read by
-- key, and stay on the coordinator.
--
-- Constraints change, because no node sees all rows:
--   * primary keys become (account_id, id), so an id is unique only within its account;
--   * an address is unique only within its account, and its account_id cannot be null;
--   * foreign keys from tables on the coordinator to accounts are dropped, so the writers must ensure that keys,
--     memberships and grants refer to existing accounts.
-- REPEATABLE READ is no snapshot across nodes: a list and its total can be from two moments.
--
-- So the sums are different: they end at a UTC midnight, there are no stored windows, and answers use the watermark of
-- the refresh before the last one. A list reads the days, and the events after that watermark. An answer can be wrong if
-- a repair (sums_refresh.sql with since) commits meanwhile. The refresh locks accounts in SHARE mode: their writers wait.
--
-- The refresh sees only transactions that began on the coordinator. If events are written through other nodes, run
-- sums_refresh.sql with -v margin='1 day'. Do not call the function outside a transaction block, as pg_cron would: its
-- lock would not last.
--
-- The connection limit of the role applies on each node, and one session of the service opens up to 16 connections to
-- each: give reader_role.sql a connection_limit of 200.
\set ON_ERROR_STOP on

-- Names without a schema are those of PostgreSQL, also where other roles may create objects in schema public.
SET search_path = pg_catalog, pg_temp;

-- Tables of the sums must belong to the owner of usage_events, to a superuser or to this role.
\set SHOW_CONTEXT never
SELECT format('DO %L', format('BEGIN RAISE USING MESSAGE = %L; END', finding))
FROM pg_catalog.pg_class AS relation
INNER JOIN pg_catalog.pg_class AS events ON events.oid = 'public.usage_events'::regclass
INNER JOIN pg_catalog.pg_roles AS owner ON owner.oid = relation.relowner
CROSS JOIN LATERAL format('stopped: %s belongs to %s', relation.oid::regclass, owner.rolname) AS finding
WHERE relation.relnamespace = 'public'::regnamespace
    AND relation.relname IN ('usage_sums', 'usage_sums_watermark', 'usage_sums_window')
    AND owner.oid <> events.relowner
    AND owner.rolname <> current_user
    AND NOT owner.rolsuper
\gexec

-- A row without the distribution column cannot be placed on a node.
SELECT id AS address_without_an_account
FROM public.account_emails
WHERE account_id IS NULL
ORDER BY id ASC;

SELECT :'ROW_COUNT'::integer > 0 AS leftovers
\gset
\if :leftovers
\set SHOW_CONTEXT never
DO 'BEGIN RAISE EXCEPTION $$stopped: there are addresses without an account, listed above$$; END';
\endif

-- Foreign keys from tables that stay on the coordinator.
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
FROM pg_catalog.pg_constraint
WHERE contype = 'f'
    AND confrelid = 'public.accounts'::regclass
    AND conrelid NOT IN (
        SELECT to_regclass(format('public.%I', name))
        FROM unnest(ARRAY['account_emails', 'usage_events', 'usage_sums', 'usage_sums_window']) AS distributed (name)
        WHERE to_regclass(format('public.%I', name)) IS NOT NULL
    )
ORDER BY conrelid::regclass::text ASC, conname ASC
\gexec

-- Add account_id to the primary keys and unique constraints that lack it.
SELECT
    format(
        'ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I %s (account_id, %s)',
        conrelid::regclass,
        conname,
        CASE contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END,
        (
            SELECT string_agg(quote_ident(attname), ', ' ORDER BY place)
            FROM unnest(conkey) WITH ORDINALITY AS part (number, place)
            INNER JOIN pg_catalog.pg_attribute ON attrelid = conrelid AND attnum = number
        )
    )
FROM pg_catalog.pg_constraint
WHERE contype IN ('p', 'u')
    AND conrelid IN ('public.account_emails'::regclass, 'public.usage_events'::regclass)
    AND NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_attribute
        WHERE attrelid = conrelid AND attnum = ANY(conkey) AND attname = 'account_id'
    )
ORDER BY conrelid::regclass::text ASC, conname ASC
\gexec

-- accounts first, because the others refer to it.
SELECT format('SELECT create_distributed_table(%L, %L, colocate_with => %L)', name, key, colocated)
FROM (
    VALUES
    (1, 'public.accounts', 'id', 'none'),
    (2, 'public.account_emails', 'account_id', 'public.accounts'),
    (3, 'public.usage_events', 'account_id', 'public.accounts'),
    (4, 'public.usage_sums', 'account_id', 'public.accounts'),
    (5, 'public.usage_sums_window', 'account_id', 'public.accounts')
) AS distributed (place, name, key, colocated)
WHERE to_regclass(name) IS NOT NULL
    AND to_regclass(name) NOT IN (SELECT logicalrelid FROM pg_dist_partition)
ORDER BY place ASC
\gexec

SELECT 'SELECT create_reference_table(''public.usage_sums_watermark'')'
WHERE to_regclass('public.usage_sums_watermark') IS NOT NULL
    AND to_regclass('public.usage_sums_watermark') NOT IN (SELECT logicalrelid FROM pg_dist_partition)
\gexec

-- create_distributed_table copies the rows to the nodes and leaves the hidden originals on the coordinator. Remove them
-- when the cluster works:
--     SELECT pg_catalog.truncate_local_data_after_distributing_table('public.accounts');
