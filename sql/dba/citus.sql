-- citus: distribute the tables over the nodes of a Citus cluster.
--
-- It needs Citus 13.1 or newer: older versions do not propagate column privileges to the shards. Run it on the
-- coordinator as a superuser, while there are no writers, after reader_role.sql and indexes.sql. It may be run again.
-- docs/measured.md says what was tried on Citus. Try it on a copy first.
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f citus.sql
--
-- accounts is distributed by id; account_emails and usage_events are distributed by account_id and co-located with it. The
-- other tables are small, are read by key, and stay on the coordinator.
--
-- Constraints change, because no node sees all rows:
--   * primary keys become (account_id, id), so an id is unique only within its account;
--   * an address is unique only within its account, and its account_id cannot be null;
--   * foreign keys from tables on the coordinator to accounts are dropped, so the writers must ensure that keys,
--     memberships and grants refer to existing accounts.
-- REPEATABLE READ is no snapshot across nodes: a list and its total can be from two moments.
--
-- The sums do not work on Citus: they need triggers and one snapshot of all events. Here the nodes add up the events. Take
-- existing sums away first, with remove.sql and sums_only.
--
-- The connection limit of the role applies on each node, and one session of the service opens up to 16 connections to
-- each: give reader_role.sql a connection_limit of 200.
\set ON_ERROR_STOP on

-- Names without a schema are those of PostgreSQL, also where other roles may create objects in schema public.
SET search_path = pg_catalog, pg_temp;

SELECT to_regclass('usage_sums.days') IS NOT NULL AS has_sums
\gset
\if :has_sums
\set SHOW_CONTEXT never
DO 'BEGIN RAISE EXCEPTION $$stopped: Citus supports no sums: run remove.sql with -v sums_only=1$$; END';
\endif

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
    AND conrelid NOT IN ('public.account_emails'::regclass, 'public.usage_events'::regclass)
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
    (3, 'public.usage_events', 'account_id', 'public.accounts')
) AS distributed (place, name, key, colocated)
WHERE to_regclass(name) NOT IN (SELECT logicalrelid FROM pg_dist_partition)
ORDER BY place ASC
\gexec

-- create_distributed_table copies the rows to the nodes and leaves the hidden originals on the coordinator. Remove them
-- when the cluster works:
--     SELECT pg_catalog.truncate_local_data_after_distributing_table('public.accounts');
