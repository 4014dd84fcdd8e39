-- A clock that tests can set. Its functions take the place of PostgreSQL's now() and statement_timestamp() in a database,
-- because queries and scripts look up functions in pg_catalog alone. Those of PostgreSQL get other names.

CREATE SCHEMA clock;

CREATE TABLE clock.fixed (
    instant timestamptz NOT NULL
);

ALTER FUNCTION pg_catalog.now() RENAME TO system_now;
ALTER FUNCTION pg_catalog.statement_timestamp() RENAME TO system_statement_timestamp;

CREATE FUNCTION pg_catalog.now() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER
AS 'SELECT coalesce((SELECT fixed.instant FROM clock.fixed), pg_catalog.system_now())';

CREATE FUNCTION pg_catalog.statement_timestamp() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER
AS 'SELECT coalesce((SELECT fixed.instant FROM clock.fixed), pg_catalog.system_statement_timestamp())';
