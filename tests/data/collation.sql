-- Text that sorts as people do, where the server is built with ICU, as Debian's is: an order by code point must not come
-- from the database's collation.

SELECT
    format('ALTER TABLE public.usage_events ALTER COLUMN id TYPE text COLLATE %I', collname) AS events,
    format('ALTER TABLE public.account_emails ALTER COLUMN email TYPE text COLLATE %I', collname) AS addresses
FROM pg_catalog.pg_collation
WHERE collname = 'und-x-icu'
\gexec
