-- remove: take away what the other scripts have created: sums, policies, indexes and the role.
--
-- Stop the service and the schedule of sums_refresh.sql first. Run it as the role that ran the other scripts, or as a
-- superuser; running it again is harmless:
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f remove.sql
-- To take away the sums alone, of this version or of the one before the ledger, with the service running:
--   psql -X -v ON_ERROR_STOP=1 -v sums_only=1 -d DATABASE -f remove.sql
--
-- Afterwards pg_dump -s prints what it printed before the other scripts. Rows of usage_events and of the other tables of
-- the owner are not read or changed. These stay:
--   * row-level security of the tables, as the owner had enabled it;
--   * the role, while another database needs it: the script prints which. Run the script there too;
--   * what a person did after reading these scripts: pg_read_all_stats of the owner, REVOKE from PUBLIC, the indexes of
--     pg_trgm and this extension;
--   * tables that citus.sql has distributed.
--
-- Indexes are found by table and name. If the owner had such an index before indexes.sql, it is dropped too: the script
-- prints the statements that make the indexes again.
--
-- Each step locks one table of the owner, for an instant, in a transaction of its own. After a lock timeout run the script
-- again: it continues where it stopped. Objects that depend on a table of the sums stop it, with their names.
-- DROP runs no code of other roles, so owners are not checked. Only these names are dropped, without CASCADE.
\set ON_ERROR_STOP on

-- Names without a schema are those of PostgreSQL, also where other roles may create objects in schema public.
SET search_path = pg_catalog, pg_temp;
SET lock_timeout = '2s';
SET client_min_messages = warning;

-- Drop the triggers first: without them the ledger is not written, and the sums are not used.
SELECT string_agg(format('DROP TRIGGER %I ON public.usage_events', tgname), '; ')
FROM pg_catalog.pg_trigger
WHERE tgrelid = to_regclass('public.usage_events')
    AND tgname IN ('usage_sums_clock', 'usage_sums_delete', 'usage_sums_insert', 'usage_sums_update')
HAVING count(*) > 0
\gexec

BEGIN;
-- Sums of the version before the ledger refer to accounts. A deletion locks accounts before the sums: so does this.
SELECT DISTINCT format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', confrelid::regclass)
FROM pg_catalog.pg_constraint
WHERE contype = 'f' AND conrelid IN (to_regclass('public.usage_sums'), to_regclass('public.usage_sums_window'))
\gexec
DROP FUNCTION IF EXISTS public.usage_sums_refresh(date, interval);
DROP TABLE IF EXISTS public.usage_sums;
DROP TABLE IF EXISTS public.usage_sums_total;
DROP TABLE IF EXISTS public.usage_sums_watermark;
DROP TABLE IF EXISTS public.usage_sums_window;

DROP FUNCTION IF EXISTS usage_sums.columns();
DROP FUNCTION IF EXISTS usage_sums.copy(jsonb);
DROP FUNCTION IF EXISTS usage_sums.cover(timestamptz, timestamptz, text);
DROP FUNCTION IF EXISTS usage_sums.note_change();
DROP FUNCTION IF EXISTS usage_sums.note_clock();
DROP FUNCTION IF EXISTS usage_sums.obstacle();
DROP FUNCTION IF EXISTS usage_sums.refresh();
DROP FUNCTION IF EXISTS usage_sums.token();
DROP FUNCTION IF EXISTS usage_sums.unusable();
DROP VIEW IF EXISTS usage_sums.late;
DROP TABLE IF EXISTS usage_sums.accounts;
DROP TABLE IF EXISTS usage_sums.days;
DROP TABLE IF EXISTS usage_sums.keys;
DROP TABLE IF EXISTS usage_sums.ledger;
DROP TABLE IF EXISTS usage_sums.watermark;
DROP TABLE IF EXISTS usage_sums.windows;
DROP SCHEMA IF EXISTS usage_sums;
COMMIT;

\if :{?sums_only}
\quit
\endif

-- \gexec runs each row in a transaction of its own.
SELECT format('DROP POLICY credits_reader ON public.%I', tablename)
FROM pg_catalog.pg_policies
WHERE schemaname = 'public' AND policyname = 'credits_reader'
ORDER BY tablename ASC
\gexec

SELECT
    format('DROP INDEX %s', pg_class.oid::regclass) AS drop_index,
    format('SELECT %L AS dropped_index', pg_get_indexdef(pg_class.oid) || ';') AS print
FROM pg_catalog.pg_class
INNER JOIN pg_catalog.pg_index ON pg_index.indexrelid = pg_class.oid
INNER JOIN pg_catalog.pg_class AS relation ON relation.oid = pg_index.indrelid
WHERE pg_class.relnamespace = 'public'::regnamespace
    AND (relation.relname, pg_class.relname) IN (
        ('account_api_keys', 'account_api_keys_key_hash_idx'),
        ('account_emails', 'account_emails_account_id_updated_at_email_idx'),
        ('account_organization_ids', 'account_organization_ids_account_id_organization_id_idx'),
        ('usage_events', 'usage_events_created_at_account_id_idx')
    )
    -- not the index of a constraint
    AND NOT pg_index.indisunique
ORDER BY pg_class.relname ASC
\gexec

BEGIN;

-- Is the role needed elsewhere?
SELECT coalesce(string_agg(DISTINCT pg_database.datname, ', ' ORDER BY pg_database.datname), '') AS other_databases
FROM pg_catalog.pg_shdepend AS depend
INNER JOIN pg_catalog.pg_database
    ON pg_database.oid = CASE depend.classid WHEN 'pg_database'::regclass THEN depend.objid ELSE depend.dbid END
WHERE (depend.refclassid, depend.refobjid) = ('pg_authid'::regclass, to_regrole('credits_reader'))
    AND pg_database.datname <> current_database()
\gset

SELECT DISTINCT
    CASE
        WHEN object.type = 'default acl'
            THEN 'ALTER DEFAULT PRIVILEGES ' || regexp_replace(object.identity, ' on (?=[a-z ]+$)', ' REVOKE ALL ON ')
        WHEN depend.classid = 'pg_class'::regclass THEN 'REVOKE ALL ON TABLE ' || object.identity
        WHEN depend.classid = 'pg_proc'::regclass THEN 'REVOKE ALL ON ROUTINE ' || object.identity
        WHEN object.type = 'server' THEN 'REVOKE ALL ON FOREIGN SERVER ' || object.identity
        WHEN object.type = 'parameter ACL' THEN 'REVOKE ALL ON PARAMETER ' || object.identity
        ELSE format('REVOKE ALL ON %s %s', replace(object.type, '-', ' '), object.identity)
    END || ' FROM credits_reader CASCADE'
FROM pg_catalog.pg_shdepend AS depend
INNER JOIN pg_catalog.pg_database ON pg_database.datname = current_database()
CROSS JOIN LATERAL pg_identify_object(depend.classid, depend.objid, 0) AS object
WHERE (depend.refclassid, depend.refobjid) = ('pg_authid'::regclass, to_regrole('credits_reader'))
    AND depend.deptype = 'a'
    AND (
        depend.dbid = pg_database.oid
        OR (depend.classid, depend.objid) = ('pg_database'::regclass, pg_database.oid)
        -- privileges of the whole cluster, if the role is dropped
        OR (depend.dbid = 0 AND :'other_databases' = '')
    )
\gexec

SELECT 'DROP ROLE credits_reader'
WHERE to_regrole('credits_reader') IS NOT NULL AND :'other_databases' = ''
\gexec

COMMIT;

SELECT format('The role credits_reader stays, because it has privileges or objects in: %s', :'other_databases') AS note
WHERE :'other_databases' <> '';
