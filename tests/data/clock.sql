-- A clock that tests can set. The search_path of the service's role puts this schema before pg_catalog, so that the
-- queries find clock.statement_timestamp(), and the refresh of the sums clock.now().

CREATE SCHEMA clock;

CREATE TABLE clock.fixed (
    instant timestamptz NOT NULL
);

CREATE FUNCTION clock.now() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER
AS 'SELECT coalesce((SELECT fixed.instant FROM clock.fixed), pg_catalog.now())';

CREATE FUNCTION clock.statement_timestamp() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER
AS 'SELECT coalesce((SELECT fixed.instant FROM clock.fixed), pg_catalog.statement_timestamp())';

GRANT USAGE ON SCHEMA clock TO credits_reader;

SELECT
    format(
        'ALTER ROLE credits_reader IN DATABASE %I SET search_path = clock, pg_catalog, public', current_database()
    )
\gexec
