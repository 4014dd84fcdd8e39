"""`make run` without a database: a private PostgreSQL and demo data. Of the service only ``psql.py`` imports it."""
