SET LOCAL search_path = pg_catalog, pg_temp\;
-- watermark: the time up to which events are summed, in seconds since 1970.
--
-- Parameters: none
-- Columns: summed_until
-- Order:   one row; -Infinity before the first refresh
-- psql -X -q -v ON_ERROR_STOP=1 -f watermark.sql
SELECT extract(EPOCH FROM instant)::text AS summed_until
FROM public.usage_sums_watermark;
