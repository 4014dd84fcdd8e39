"""The least that a Flask route can do with PostgreSQL, `SELECT 1`: the bench holds the service against it.

It runs as `gunicorn tests.bare:app` in the folder above this one, with the service's own gunicorn.conf.py.
"""

import os
import threading

import psycopg2
from flask import Flask
from psycopg2.extensions import connection

# As many connections as a worker of the service has.
slots = threading.Semaphore(int(os.environ.get("POOL_SIZE", "4")))
idle: list[connection] = []

app = Flask(__name__)


@app.get("/")
def bare() -> dict[str, int]:
    with slots:
        try:
            raw = idle.pop()
        except IndexError:
            # Not before: gunicorn loads the application and then forks.
            raw = connected()
        with raw.cursor() as cursor:
            cursor.execute("SELECT 1 AS one")
            ((one,),) = cursor.fetchall()
        idle.append(raw)
    return {"one": one}


def connected() -> connection:
    raw = psycopg2.connect(os.environ["DATABASE_URL"])
    raw.autocommit = True
    return raw
