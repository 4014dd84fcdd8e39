"""The endpoints agree with plain Python, and so with each other, in every window and while events are added."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from conftest import ADMIN, CREDITS_COLUMN, DAYS, ROLLUP, Tables, answered
from model import MICROSECOND, PERIODS, Content, account_columns, contents, instants_around, law, window_start
from service.queries import CREDITS_COLUMNS
from service.schemas.requests import BREAKDOWN_KEYS

CREDITS = "/api/admins/credits"
TOKENS = ("input_tokens", "cached_input_tokens", "output_tokens", "tool_call_count")
Events = list[dict[str, Any]]


def sums(events: Events, tokens: tuple[str, ...] = ()) -> dict[str, int]:
    return {
        "total_credits_deducted_cents": sum(event["credits_deducted_cents"] for event in events),
        "event_count": len(events),
        **{name: sum(event[name] for event in events) for name in tokens},
    }


def previous(events: Events | None) -> dict[str, int]:
    """Return the columns of ``compare=previous``, none for a window that has no previous one."""
    return {} if events is None else {f"previous_{name.removeprefix('total_')}": n for name, n in sums(events).items()}


def of(events: Events | None, column: str, value: object) -> Events | None:
    return None if events is None else [event for event in events if event[column] == value]


def accounts(content: Content, ids: set[UUID], spent: Events, before: Events | None) -> list[dict[str, Any]]:
    """Return the rows of accounts, in the order of their ids."""
    return [
        {
            **account_columns(content, id_),
            **sums(of(spent, "account_id", id_) or []),
            **previous(of(before, "account_id", id_)),
        }
        for id_ in sorted(ids)
    ]


@pytest.fixture(params=CREDITS_COLUMNS)
def credits_column(request: pytest.FixtureRequest, tables: Tables) -> Iterator[str]:
    tables.rename_credits(request.param)
    yield request.param
    tables.rename_credits(CREDITS_COLUMN)


@pytest.mark.usefixtures("credits_column")
@law
@given(
    data=st.data(), kind=st.sampled_from([*PERIODS, "custom"]), limit=st.sampled_from([3, 500]), pinned=st.booleans()
)
def test_every_sum_of_a_window_is_that_of_its_events(
    admin: FlaskClient, tables: Tables, data: st.DataObject, kind: str, limit: int, pinned: bool
) -> None:
    # without a cutoff, accounts that do not exist are not counted where the page does not show the number
    content = data.draw(contents(orphans=kind != "all" or limit == 500))
    content.store(tables)
    end = content.now
    if pinned:
        end = data.draw(instants_around(content.now).map(lambda instant: min(instant, content.now)))
    if kind == "custom":
        starts = [start for event in content.events if (start := event["created_at"]).year >= 1970 and start < end]
        since = data.draw(st.sampled_from([*starts, end - MICROSECOND, end - timedelta(days=3)]))
        arguments = {"since": since.isoformat()}
    else:
        since = window_start(kind, end - MICROSECOND if pinned else end)
        arguments = {"period": kind}
    if pinned:
        arguments["as_of"] = end.isoformat()
    spent = [
        event
        for event in content.events
        if (since is None or event["created_at"] >= since) and event["created_at"] < end
    ]
    before: Events | None = None
    if since is not None:
        shift = timedelta(days=PERIODS.get(kind) or 0) or end - since
        before = [event for event in content.events if since - shift <= event["created_at"] < end - shift]
        arguments["compare"] = "previous"

    def rows(resource: str, **more: object) -> list[dict[str, Any]]:
        """Return the rows of all pages; if the end of the window is pinned, an event is added there before each."""
        found: list[dict[str, Any]] = []
        for page in count(1):
            if pinned:
                tables.event(ADMIN, 10**12, end)
            body = answered(admin, f"{CREDITS}/{resource}", **arguments, limit=limit, page=page, **more)
            found += body["rows"]
            if page * limit >= body["total_count"]:
                break
        assert len(found) == body["total_count"]
        return found

    spenders = {event["account_id"] for event in spent}
    ranked = accounts(content, spenders, spent, before)
    ranked.sort(key=lambda row: -row["total_credits_deducted_cents"])
    assert rows("rollup") == ranked

    for by in BREAKDOWN_KEYS:
        column = "model_id" if by == "model" else by
        keys = {event[column] for event in spent}
        expected = [
            {"key": key, **sums(of(spent, column, key) or [], TOKENS), **previous(of(before, column, key))}
            for key in sorted(keys, key=lambda key: (key is None, key))
        ]
        expected.sort(key=lambda row: -row["total_credits_deducted_cents"])
        assert rows("breakdown", by=by) == expected
    for row in ranked[:1]:
        found = rows("breakdown", by="model", account_id=row["account_id"])
        assert {name: sum(key[name] for key in found) for name in sums([])} == {name: row[name] for name in sums([])}

    compare = arguments.pop("compare", None)
    days = answered(admin, DAYS, **arguments)["days"]
    assert {name: sum(day[name] for day in days) for name in sums([])} == sums(spent)
    if before is None or not compare:
        return

    changed = accounts(content, spenders | {event["account_id"] for event in before}, spent, before)
    for row in changed:
        change = row["total_credits_deducted_cents"] - row["previous_credits_deducted_cents"]
        row["change_credits_deducted_cents"] = change
    changed.sort(key=lambda row: -abs(row["change_credits_deducted_cents"]))
    assert rows("changes") == changed

    headers = admin.get(f"{CREDITS}/changes", query_string=arguments).headers
    if headers["Previous-Start"] < headers["Previous-End"]:
        edges = {"since": headers["Previous-Start"], "as_of": headers["Previous-End"]}
        found = answered(admin, ROLLUP, **edges, limit=500)["rows"]
        assert {name: sum(row[name] for row in found) for name in sums([])} == sums(before)
