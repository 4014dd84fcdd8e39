-- citus: spread the tables over the nodes of a Citus cluster, so that every query runs on all of them at once.
--
-- For Citus 13.1 or newer (before, a grant of single columns did not reach the shards), on the coordinator, by
-- a superuser, while nobody writes; after reader_role.sql, indexes.sql and, where it is used, sums.sql. As often as
-- you like: what is done already is left alone. It has been written after Citus' documentation and source, and no Citus
-- was at hand to run it on: try it on a copy.
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f citus.sql
--
-- accounts is distributed by id, and account_emails, usage_events, usage_sums and usage_sums_total by account_id, all
-- co-located: what belongs to an account is on one node. The watermark, one row, is on every node. The rest is small, is
-- asked by key, and stays on the coordinator.
--
-- What the tables lose by it, because no node sees all rows:
--   * an id is unique within its account only: a primary key must hold the column that distributes, (account_id, id);
--   * an address is unique within its account only;
--   * no foreign key can lead from the tables on the coordinator to accounts: that keys, memberships and grants belong to
--     an account that exists, and that such an account is not deleted, is left to those who write;
--   * an address belongs to an account: account_id is not null any more.
-- What the answers lose: REPEATABLE READ is no snapshot across nodes. A list and its total may be of two moments, and
-- a request that is made while a refresh commits may miss a day on some of the nodes.
--
-- The refresh sees the transactions that began on the coordinator. If anybody writes through another node, keep a day's
-- distance: -v margin='1 day'. And use the script, not the bare function: without BEGIN its lock would not last.
-- The limits of the role hold on each node, where one session of the service opens several connections: give
-- reader_role.sql a higher connection_limit.
\set ON_ERROR_STOP on

-- An address of nobody could be on no node.
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

-- From what stays on the coordinator to what does not.
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
FROM pg_catalog.pg_constraint
WHERE contype = 'f'
    AND confrelid = 'public.accounts'::regclass
    AND conrelid NOT IN (
        SELECT to_regclass(format('public.%I', name))
        FROM unnest(ARRAY['account_emails', 'usage_events', 'usage_sums', 'usage_sums_total']) AS distributed (name)
        WHERE to_regclass(format('public.%I', name)) IS NOT NULL
    )
ORDER BY conrelid::regclass::text ASC, conname ASC
\gexec

-- A key without account_id gets it in front.
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

-- accounts first, to which the others refer.
SELECT format('SELECT create_distributed_table(%L, %L, colocate_with => %L)', name, key, colocated)
FROM (
    VALUES
    (1, 'public.accounts', 'id', 'none'),
    (2, 'public.account_emails', 'account_id', 'public.accounts'),
    (3, 'public.usage_events', 'account_id', 'public.accounts'),
    (4, 'public.usage_sums', 'account_id', 'public.accounts'),
    (5, 'public.usage_sums_total', 'account_id', 'public.accounts')
) AS distributed (place, name, key, colocated)
WHERE to_regclass(name) IS NOT NULL
    AND to_regclass(name) NOT IN (SELECT logicalrelid FROM pg_dist_partition)
ORDER BY place ASC
\gexec

SELECT 'SELECT create_reference_table(''public.usage_sums_watermark'')'
WHERE to_regclass('public.usage_sums_watermark') IS NOT NULL
    AND to_regclass('public.usage_sums_watermark') NOT IN (SELECT logicalrelid FROM pg_dist_partition)
\gexec

-- What create_distributed_table copied to the nodes still lies, unseen, in the coordinator's own tables:
--     SELECT truncate_local_data_after_distributing_table('public.accounts');
-- empties them, once all is seen to be well.
