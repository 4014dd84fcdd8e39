-- Use a linguistic collation if the server has ICU, as Debian's has: tests then fail if a query that must sort by code
-- point uses the collation of the column.

SELECT
    format('ALTER TABLE public.usage_events ALTER COLUMN id TYPE text COLLATE %I', collname) AS events,
    format('ALTER TABLE public.account_emails ALTER COLUMN email TYPE text COLLATE %I', collname) AS addresses
FROM pg_catalog.pg_collation
WHERE collname = 'und-x-icu' AND getdatabaseencoding() <> 'SQL_ASCII'
\gexec
