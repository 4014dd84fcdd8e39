-- indexes: create the indexes that the queries need beside those that the tables already have.
--
-- Run it as the owner of the tables, outside a transaction; running it again is harmless:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f indexes.sql
--
-- Each index is built CONCURRENTLY, which does not block writes, reads the table twice and waits for open transactions.
-- A cancelled build leaves an INVALID index, which slows every write, serves no query, and counts as existing for IF
-- NOT EXISTS. If these tables have such indexes, the script lists them and stops. A partitioned table cannot be indexed
-- CONCURRENTLY: index each partition instead.
--
-- The figures below are from PostgreSQL 18.6 with 10 million events of 100,000 accounts in 60 days, 200,000 addresses
-- and 200,000 keys: 1,420 MB of events and 1,003 MB of indexes before these. 2 cores, shared_buffers 2 GB, otherwise
-- default settings, all data in memory; medians of seven runs on a machine that had other work. The numbers of pages, of
-- 8 kB, are more reliable than the times: a cold cache has to read these pages.
\set ON_ERROR_STOP on

-- Names without a schema are those of PostgreSQL, also where other roles may create objects in schema public.
SET search_path = pg_catalog, pg_temp;

-- A timeout of the role or the database would cancel a build.
SET statement_timeout = 0;
SET lock_timeout = 0;

-- Newer databases call the column credits_deducted_cents credits_deducted. While both exist, the older one counts.
SELECT coalesce(max(attname::text COLLATE "C"), 'credits_deducted_cents') AS credits_column
FROM pg_catalog.pg_attribute
WHERE attrelid = 'public.usage_events'::regclass AND attname IN ('credits_deducted_cents', 'credits_deducted')
\gset

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

-- Windows over all accounts: without this index every rollup, count and list of days reads the whole table. The index
-- covers all the columns that they read. Size: 472 MB. With the other three indexes, a first page of the rollup took
--     daily    975 ms and 184,584 pages before,    49 ms and  1,582 pages with it
--     weekly   886 ms and 184,566 pages before,   357 ms and  7,606 pages with it
--     monthly 1827 ms and 184,563 pages before,  1173 ms and 30,705 pages with it
--     all     2904 ms and 184,563 pages before,  2912 ms and 182,392 pages: it has to read the whole table
-- A daily count went from 127 to 27 ms; on PostgreSQL 15, which has no skip scan, from 725 to 30 ms. A monthly count
-- became slower on PostgreSQL 18, from 320-467 ms to 500-1155 ms, because it no longer uses a skip scan of (account_id,
-- created_at). Writing 100,000 events went from 1.8 to 2.0 s.
--
-- The newest events cost more. Table pages written since the last vacuum are not marked all-visible, so an index-only
-- scan fetches their events from the table too: with 166,667 of today's 333,334 events not vacuumed, a daily rollup
-- made 166,677 such fetches and read 6,564 pages instead of 3,532. In memory the times did not differ measurably. By
-- default autovacuum runs after inserts of a fifth of the table: for 10 million events, after 2 million. To vacuum
-- about every day:
--     ALTER TABLE public.usage_events SET (autovacuum_vacuum_insert_scale_factor = 0.01);
--
-- Smaller alternatives: (created_at) alone, 214 MB, 81 ms for a daily and 523 ms for a weekly rollup; BRIN (created_at)
-- with autosummarize, 64 kB, 89 and 371 ms. Choose BRIN if disk space or writes are expensive and events are only
-- appended in the order of created_at. It stops helping when rows are loaded later or reuse the space of deleted rows.
CREATE INDEX CONCURRENTLY IF NOT EXISTS usage_events_created_at_account_id_idx
ON public.usage_events (created_at, account_id) INCLUDE (:"credits_column");

-- The primary addresses of the accounts on a page: without this index every page reads every address. Size: 15 MB. A
-- daily rollup went from 95 to 49 ms and from 3,773 to 1,582 pages; with 500 accounts on the page, from 155 to 64 ms.
CREATE INDEX CONCURRENTLY IF NOT EXISTS account_emails_account_id_updated_at_email_idx
ON public.account_emails (account_id, updated_at DESC, email COLLATE "C")
WHERE email IS NOT NULL;

-- The key of each request: without this index each request reads every key. Size: 18 MB. 16 ms before, 2.6 ms with it,
-- 0.17 ms with the next one too.
CREATE INDEX CONCURRENTLY IF NOT EXISTS account_api_keys_key_hash_idx
ON public.account_api_keys (key_hash);

-- The memberships of the caller: without this index each request reads every membership. Size: 4.8 MB for 100,000.
CREATE INDEX CONCURRENTLY IF NOT EXISTS account_organization_ids_account_id_organization_id_idx
ON public.account_organization_ids (account_id, organization_id);

-- The events of one account and the count of accounts without a cutoff use indexes that the tables already have:
-- (account_id, created_at) on usage_events and (account_id, created_at DESC) on credit_grants.

-- A filter such as model=gpt-5 reads the window's events in the table, not in an index. If "who uses this model" takes too
-- long, add an index of the values, here of the models:
--     CREATE INDEX CONCURRENTLY ON public.usage_events ((coalesce(model_id, '') COLLATE "C"), created_at)
--     INCLUDE (account_id, credits_deducted_cents, model_id);

-- A search for accounts reads every name and every address: with a million accounts and two million addresses, 0.7 s
-- for a text that none contains, on a machine with other work. If that takes too long, add indexes of the extension
-- pg_trgm. They serve texts of three characters and more, need 124 and 221 MB, and slow every write of a name or an
-- address; the same search then took 9 ms:
--     CREATE EXTENSION pg_trgm;
--     CREATE INDEX CONCURRENTLY ON public.accounts USING gin (pg_catalog.lower(name) gin_trgm_ops);
--     CREATE INDEX CONCURRENTLY ON public.account_emails USING gin (pg_catalog.lower(email) gin_trgm_ops);

SELECT
    pg_class.relname AS index_name,
    pg_size_pretty(pg_relation_size(pg_class.oid)) AS size
FROM pg_catalog.pg_class
INNER JOIN pg_catalog.pg_index ON pg_index.indexrelid = pg_class.oid
WHERE pg_index.indrelid IN (
        'public.account_api_keys'::regclass,
        'public.account_emails'::regclass,
        'public.account_organization_ids'::regclass,
        'public.usage_events'::regclass
    )
    AND pg_class.relname IN (
        'account_api_keys_key_hash_idx',
        'account_emails_account_id_updated_at_email_idx',
        'account_organization_ids_account_id_organization_id_idx',
        'usage_events_created_at_account_id_idx'
    )
ORDER BY index_name ASC;

SELECT :'ROW_COUNT'::integer < 4 AS missing
\gset
\if :missing
\set SHOW_CONTEXT never
DO 'BEGIN RAISE EXCEPTION $$stopped: another relation has the name of an index that is not listed$$; END';
\endif
