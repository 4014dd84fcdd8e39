-- replayed: on a standby, the commit time of the last transaction that it has replayed; null if there is none.
--
-- Parameters: none
-- Columns: replayed
-- Order:   one row
-- psql -X -v ON_ERROR_STOP=1 -f replayed.sql
SELECT pg_last_xact_replay_timestamp() AS replayed;
