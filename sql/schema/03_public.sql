-- Privileges of PUBLIC that a reader must not have: temporary tables, large objects, WAL messages and advisory locks.

SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database())
\gexec

SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', oid::regprocedure)
FROM pg_catalog.pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace
    AND proname ~ '^(lo_creat|lo_from_bytea|pg_logical_emit_message|pg_(try_)?advisory_(xact_)?lock)'
\gexec
