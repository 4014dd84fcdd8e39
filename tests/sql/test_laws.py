"""The laws: every answer is that of tests/model.py, on random databases, in every window and representation."""

import csv
import io
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import CREDITS_COLUMN, DATABASE, Tables, answered
from model import (
    COLUMNS,
    INTEGER_MAX,
    MICROSECOND,
    ONLY,
    Content,
    Window,
    answer,
    contents,
    law,
    previous_of,
    rows,
    windows,
)
from service.representations.csv import GUARDED
from service.schemas.requests import BREAKDOWN_KEYS, BUCKETS

CREDITS = "/api/admins/credits"


@pytest.fixture(params=["credits_deducted_cents integer", "credits_deducted_cents bigint", "credits_deducted bigint"])
def credits_type(request: pytest.FixtureRequest, tables: Tables) -> Iterator[str]:
    """The column of credits has had these names and types."""
    name, type_ = request.param.split()
    tables.rename_credits(name)
    tables.set_credits_type(type_)
    yield type_
    tables.empty()
    tables.set_credits_type("bigint")
    tables.rename_credits(CREDITS_COLUMN)


@pytest.fixture
def far_zones(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A role in Asia/Kolkata, served by a process in America/New_York."""
    tables.execute(f"ALTER ROLE credits_reader IN DATABASE {DATABASE} SET TimeZone = 'Asia/Kolkata'")
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    assert time.tzname == ("EST", "EDT")
    yield
    monkeypatch.undo()
    os.environ.pop("TZ", None)
    time.tzset()
    tables.execute(f"ALTER ROLE credits_reader IN DATABASE {DATABASE} RESET TimeZone")


def searches(content: Content) -> Iterator[str]:
    """Return texts to search for: of the id of an account the first 7 to 36 characters, and a sign that names have."""
    for event in content.events[:1]:
        account_id = event["account_id"]
        beginning = str(account_id)[: 7 + account_id.int % 30]
        yield beginning.upper() if account_id.int % 2 else beginning
    yield "%"


def questions(content: Content, asked: Window, *, compared: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each list with its arguments beside those of the window and the page."""
    compare = {"compare": "previous"} if compared and asked.previous else {}
    if asked.since:
        # as long as a leap year; not adjacent, and adjacent
        year = f"{(asked.since - timedelta(days=396)).isoformat()}/{(asked.since - timedelta(days=30)).isoformat()}"
        moment = f"{(asked.since - MICROSECOND).isoformat()}/{asked.since.isoformat()}"
        for resource, arguments in (("rollup", {}), ("changes", {}), ("breakdown", {"by": "provider"})):
            yield resource, {"compare": year, **arguments}
            yield resource, {"compare": moment, **arguments}
    for event in content.events[:1]:
        values = {name: event[column] or "" for name, column in COLUMNS.items()}
        account = {"account_id": event["account_id"]}
        # one of these
        filters = [{"model": values["model"]}, {"provider": values["provider"]}, {"source": "api"}, values]
        chosen = filters[account["account_id"].int % len(filters)]
        yield "rollup", {**chosen, **compare}
        yield "breakdown", {"by": "model", **chosen, **compare}
        yield "series", {"by": "model", "top": 1, **chosen}
        for resource in ("days", "events"):
            yield resource, {**account, **chosen}
        yield "days", chosen
        if asked.previous:
            yield "changes", chosen
    for bucket in BUCKETS[1 if asked.since is None or asked.until - asked.since > timedelta(days=14) else 0 :]:
        yield "series", {"bucket": bucket}
        yield "series", {"bucket": bucket, "by": "provider", "top": 2}
    yield "rollup", compare
    for q in searches(content):
        yield "rollup", {"q": q, **compare}
    for by in BREAKDOWN_KEYS:
        yield "breakdown", {"by": by, **compare}
    yield "days", {}
    if asked.previous:
        for only in ONLY:
            yield "changes", {"only": only} if only else {}
        for q in searches(content):
            yield "changes", {"q": q}
            yield "changes", {"q": q, "only": "up"}
    # Unknown; perhaps with grants; with events, and perhaps of an account that does not exist.
    ids = [
        UUID(int=0),
        *[id_ for id_, _ in content.accounts[:1]],
        *[event["account_id"] for event in content.events[:1]],
    ]
    for account_id in dict.fromkeys(ids):
        yield "breakdown", {"by": "model", "account_id": account_id, **compare}
        yield "days", {"account_id": account_id}
        yield "events", {"account_id": account_id}
        yield "events", {"account_id": account_id, "sort": "credits"}


def in_csv(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return rows as a reader of the CSV must find them."""

    def cell(value: Any) -> str:
        if isinstance(value, str):
            return GUARDED.sub("'", value)
        return "" if value is None else json.dumps(value)

    return [{name: cell(value) for name, value in row.items()} for row in rows]


def check_answers(admin: FlaskClient, content: Content, asked: Window, limit: int, *, compared: bool) -> None:
    """Assert that every list is that of the model: the first pages, one beyond the last, the CSV, and the edges."""
    for resource, arguments in questions(content, asked, compared=compared):
        path, whole = f"{CREDITS}/{resource}", rows(content, asked, resource, **arguments)
        query = {**asked.arguments, **arguments}
        has_pages = resource not in ("days", "series")
        for page in sorted({1, 2, len(whole) // limit + 2}) if has_pages else [1]:
            cut = {"limit": limit, "page": page} if has_pages else {}
            assert answered(admin, path, **query, **cut) == answer(content, asked, resource, **cut, **arguments)
        if resource in ("rollup", "changes", "breakdown"):
            cut = {"limit": limit, "page": 1, "totals": "true"}
            assert answered(admin, path, **query, **cut) == answer(content, asked, resource, **cut, **arguments)

        exported = admin.get(path, query_string=query, headers={"Accept": "text/csv"})
        assert list(csv.DictReader(io.StringIO(exported.text, newline=""))) == in_csv(whole)
        has_previous = "compare" in arguments or resource == "changes"
        previous = previous_of(asked, arguments.get("compare", "")) if has_previous else None
        edges = [asked.since, asked.until, asked.until, *(previous or (None, None))]
        names = ("Window-Start", "Window-End", "As-Of", "Previous-Start", "Previous-End")
        for name, instant in zip(names, edges, strict=True):
            assert exported.headers.get(name) == (instant and instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


@settings(law, max_examples=20)
@given(data=st.data(), limit=st.sampled_from([1, 2, 500]), compared=st.booleans())
def test_every_answer_is_that_of_the_model(
    admin: FlaskClient, tables: Tables, credits_type: str, data: st.DataObject, limit: int, compared: bool
) -> None:
    content = data.draw(contents(INTEGER_MAX if credits_type == "integer" else 2**63 - 1))
    asked = data.draw(windows(content))
    # Events at every edge, and just before it.
    edges = [edge for edge in (asked.since, asked.until, *(asked.previous or ())) if edge]
    instants = {edge - step * MICROSECOND for edge in edges for step in (0, 1)}
    for event in content.events[:1]:
        content.events += [{**event, "id": f"at {instant}", "created_at": instant} for instant in instants]
    content.store(tables)
    check_answers(admin, content, asked, limit, compared=compared)


@settings(law, max_examples=10)
@given(data=st.data())
@pytest.mark.usefixtures("far_zones")
def test_no_time_zone_changes_an_answer(fresh_admin: FlaskClient, tables: Tables, data: st.DataObject) -> None:
    content = data.draw(contents())
    content.store(tables)
    check_answers(fresh_admin, content, data.draw(windows(content)), 500, compared=True)
