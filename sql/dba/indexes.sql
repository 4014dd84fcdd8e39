-- indexes: what the queries need beside the indexes that the tables have already.
--
-- Run by the owner of the tables, as often as you like, outside a transaction:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f indexes.sql
--
-- Nobody is locked out: each index is built CONCURRENTLY, which reads the table twice and waits for the transactions
-- that are open. A build that is cancelled leaves an INVALID index behind, which slows every write, serves no query,
-- and which IF NOT EXISTS would take for the real one: so the script first lists such leftovers, of these tables, and
-- stops. A partitioned table cannot be indexed CONCURRENTLY: there, each partition is, by its owner's own script.
--
-- The figures were measured on PostgreSQL 18.6 with 10 million events of 100,000 accounts in 60 days, 200,000 addresses
-- and 200,000 keys: 1,420 MB of events, with 1,003 MB of indexes before these. 2 cores, shared_buffers 2 GB, otherwise
-- default settings, everything in memory, the median of seven runs beside other work: the pages, of 8 kB, say more than
-- the times, and are what a cold cache has to read.
\set ON_ERROR_STOP on

-- A time limit of the role or the database would cancel a build half way.
SET statement_timeout = 0;
SET lock_timeout = 0;

SELECT
    pg_index.indexrelid::regclass AS invalid_index,
    format('DROP INDEX CONCURRENTLY %s;', pg_index.indexrelid::regclass) AS what_to_do_unless_it_is_being_built_now
FROM pg_catalog.pg_index
WHERE NOT pg_index.indisvalid
    AND pg_index.indrelid IN (
        'public.account_api_keys'::regclass,
        'public.account_emails'::regclass,
        'public.account_organization_ids'::regclass,
        'public.usage_events'::regclass
    )
ORDER BY invalid_index ASC;

SELECT :'ROW_COUNT'::integer > 0 AS leftovers
\gset
\if :leftovers
\set SHOW_CONTEXT never
DO 'BEGIN RAISE EXCEPTION $$stopped: there are INVALID indexes, listed above$$; END';
\endif

-- A window over all accounts: without it every rollup, count and list of days reads the whole table. All that they read
-- of an event is in this index. Size: 472 MB. With the other three, a first page of the rollup took
--     daily    975 ms and 184,584 pages before,    49 ms and  1,582 pages with it
--     weekly   886 ms and 184,566 pages before,   357 ms and  7,606 pages with it
--     monthly 1827 ms and 184,563 pages before,  1173 ms and 30,705 pages with it
--     all     2904 ms and 184,563 pages before,  2912 ms and 182,392 pages: it reads the whole table, as it must
-- and a daily count went from 127 to 27 ms; on PostgreSQL 15, which cannot skip through the index (account_id,
-- created_at), from 725 to 30 ms. A monthly count became slower on 18, 320 to 467 ms before and 500 to 1155 ms after:
-- it had skipped through that index. Of writing 100,000 events it made 2.0 s out of 1.8 s.
--
-- The newest events cost more. A page of the table that was written since the last vacuum is not known to be visible to
-- all, so the index alone does not suffice and each of its events is fetched from the table too: with 166,667 of
-- today's 333,334 events not vacuumed, a daily rollup made 166,677 such fetches and read 6,564 pages instead of 3,532.
-- In memory no difference of time showed in the noise; a cold cache has to read them. By default autovacuum comes to a
-- table when a fifth of it is new: of 10 million events, after 2 million. To have it come every day is the owner's
-- decision:
--     ALTER TABLE public.usage_events SET (autovacuum_vacuum_insert_scale_factor = 0.01);
--
-- Smaller ones: (created_at) alone, 214 MB, took 81 ms for a daily rollup, 523 ms for a weekly one; BRIN (created_at)
-- with autosummarize, 64 kB, 89 and 371 ms. Where disk or writes are dear and events are only ever appended in the
-- order of created_at, take BRIN; deleted rows whose place is used again, or rows loaded later, make it useless.
CREATE INDEX CONCURRENTLY IF NOT EXISTS usage_events_created_at_account_id_idx
ON public.usage_events (created_at, account_id) INCLUDE (credits_deducted_cents);

-- The primary address of the accounts on a page, in the order that chooses it: without it, every page reads every
-- address. Size: 15 MB. A daily rollup went from 95 to 49 ms and from 3,773 to 1,582 pages; with 500 accounts on the
-- page from 155 to 64 ms.
CREATE INDEX CONCURRENTLY IF NOT EXISTS account_emails_account_id_updated_at_email_idx
ON public.account_emails (account_id, updated_at DESC, email COLLATE "C")
WHERE email IS NOT NULL;

-- Who asks, looked up on every request: without it, each reads every key. Size: 18 MB. 16 ms before, 2.6 ms with it,
-- and 0.17 ms with the next.
CREATE INDEX CONCURRENTLY IF NOT EXISTS account_api_keys_key_hash_idx
ON public.account_api_keys (key_hash);

-- Whether who asks is an admin: without it, each request reads every membership. Size: 4.8 MB, of 100,000.
CREATE INDEX CONCURRENTLY IF NOT EXISTS account_organization_ids_account_id_organization_id_idx
ON public.account_organization_ids (account_id, organization_id);

-- The drill-down, and the count of accounts without a cutoff, need no other than those that the tables have:
-- (account_id, created_at) on usage_events and (account_id, created_at DESC) on credit_grants.

SELECT
    pg_class.relname AS index_name,
    pg_size_pretty(pg_relation_size(pg_class.oid)) AS size
FROM pg_catalog.pg_class
WHERE pg_class.relnamespace = 'public'::regnamespace
    AND pg_class.relname IN (
        'account_api_keys_key_hash_idx',
        'account_emails_account_id_updated_at_email_idx',
        'account_organization_ids_account_id_organization_id_idx',
        'usage_events_created_at_account_id_idx'
    )
ORDER BY index_name ASC;
