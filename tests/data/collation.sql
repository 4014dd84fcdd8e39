-- Use a linguistic collation in a UTF8 database of a server with ICU, as Debian's: tests then fail if a query that must sort
-- by code point uses the collation of the column. Not every encoding has one.

SELECT
    format('ALTER TABLE public.usage_events ALTER COLUMN id TYPE text COLLATE %I', collname) AS events,
    format('ALTER TABLE public.account_emails ALTER COLUMN email TYPE text COLLATE %I', collname) AS addresses
FROM pg_catalog.pg_collation
WHERE collname = 'und-x-icu' AND getdatabaseencoding() = 'UTF8'
\gexec
