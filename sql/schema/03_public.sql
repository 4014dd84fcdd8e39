-- What PUBLIC may do by default and a reader must not: scratch tables in the database.

SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database())
\gexec
