SET LOCAL search_path = pg_catalog, pg_temp\;
-- credits_column: the name of the column of credits in usage_events, the value of credits_column for the other queries.
--
-- Parameters: none
-- Columns: credits_column
-- Order:   the column that is read first; no row if there is none, two rows while both exist
-- psql -X -q -v ON_ERROR_STOP=1 -f credits_column.sql
--
-- Newer databases call credits_deducted_cents credits_deducted. Where both exist, a migration is under way, and the older
-- one is read.
SELECT pg_attribute.attname::text AS credits_column
FROM pg_catalog.pg_class
INNER JOIN pg_catalog.pg_attribute ON pg_attribute.attrelid = pg_class.oid
WHERE pg_class.relnamespace = to_regnamespace('public')
    AND pg_class.relname = 'usage_events'
    AND pg_attribute.attname IN ('credits_deducted_cents', 'credits_deducted')
ORDER BY pg_attribute.attname = 'credits_deducted_cents' DESC;
