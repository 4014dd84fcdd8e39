SET LOCAL search_path = pg_catalog, pg_temp\;
-- replayed: the instant up to which a standby has replayed all commits.
--
-- Parameters: none
-- Columns: replayed, server
-- Order:   one row
-- psql -X -q -v ON_ERROR_STOP=1 -f replayed.sql
--
-- It is the commit time of the last transaction that was replayed. Before the first one after its start, it is the time
-- of the checkpoint of the primary from which the standby started.
SELECT
    coalesce(
        pg_last_xact_replay_timestamp(), (SELECT checkpoint_time FROM pg_catalog.pg_control_checkpoint())
    ) AS replayed,
    -- as in fingerprint.sql
    concat_ws(' ', inet_server_addr(), inet_server_port(), extract(EPOCH FROM pg_postmaster_start_time())) AS server;
