-- A clock that tests can set. The queries call now(), which is found in pg_catalog, unless a role's search_path puts
-- another schema before it: that of the service's role does so here, and nothing else about the service is changed.

CREATE SCHEMA clock;

CREATE TABLE clock.fixed (
    instant timestamptz NOT NULL
);

CREATE FUNCTION clock.now() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER
AS 'SELECT coalesce((SELECT fixed.instant FROM clock.fixed), pg_catalog.now())';

GRANT USAGE ON SCHEMA clock TO credits_reader;

SELECT
    format(
        'ALTER ROLE credits_reader IN DATABASE %I SET search_path = clock, pg_catalog, public', current_database()
    )
\gexec
