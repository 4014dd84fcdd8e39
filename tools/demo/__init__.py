"""`make run` without a database: a private PostgreSQL and demo data."""
