"""A Flask route that does as little as one with PostgreSQL can, to compare the service with."""

import os
import threading

import psycopg2
from flask import Flask
from psycopg2.extensions import connection

# As many connections as a worker of the service has.
slots = threading.Semaphore(4)
idle: list[connection] = []
app = Flask(__name__)


@app.get("/")
@app.get("/health/live")  # polled until gunicorn has started
def bare() -> dict[str, int]:
    with slots:
        try:
            raw = idle.pop()
        except IndexError:
            # Connect after gunicorn has forked.
            raw = psycopg2.connect(os.environ["DATABASE_URL"])
            raw.autocommit = True
        with raw.cursor() as cursor:
            cursor.execute("SELECT 1 AS one")
            ((one,),) = cursor.fetchall()
        idle.append(raw)
    return {"one": one}
