SET LOCAL search_path = pg_catalog, pg_temp\;
-- watermark: the time up to which events are summed, in seconds since 1970, and why the sums are not used.
--
-- Parameters: none
-- Columns: summed_until, unusable
-- Order:   one row; -Infinity and a reason if they are not used; otherwise unusable is null
-- psql -X -q -v ON_ERROR_STOP=1 -f watermark.sql
SELECT
    extract(EPOCH FROM stop)::text AS summed_until,
    usage_sums.unusable() AS unusable
FROM usage_sums.cover('-infinity'::timestamptz, 'infinity'::timestamptz, 'days'::text);
