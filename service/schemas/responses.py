"""Describes the answers, each column once, in the order of its query file; rows are not serialized here.

The examples appear in the reference. Together they are one answer.
"""

from collections.abc import Iterable
from typing import Any

from marshmallow import Schema, fields
from marshmallow.validate import OneOf, Range

from service.periods import CUSTOM, PERIOD_DAYS
from service.schemas.requests import ACCOUNT_ID, BREAKDOWN_KEYS, BUCKETS, FILTERS, MAX_LIMIT, MAX_PAGE, MAX_TOP

# The columns that compare=previous adds to a row.
COMPARED = ("previous_credits_deducted_cents", "previous_event_count")


class Timestamp(fields.Field[str]):
    """An instant in UTC with six fractional digits, spelled by ``database/connection.py``."""


class Rows(fields.List[Any]):
    """Rows of a query file, of one schema.

    A query file returns the columns of the schema in its order, and the values as JSON spells them; tests check this
    for each file. So the rows are not dumped, which would take eight times as long.
    """

    def __init__(self, schema: type[Schema]) -> None:
        super().__init__(fields.Nested(schema))
        self.row_schema = schema()

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - marshmallow's signature
        return value


class Envelope(Schema):
    """The body of a 200. Its first field of rows is the list that the endpoint is for."""

    status = fields.Constant("success")

    @property
    def list_name(self) -> str:
        """The key of the list."""
        return next(name for name, field in self.fields.items() if isinstance(field, Rows))

    @property
    def row_schema(self) -> Schema:
        """The schema of the list's rows, with the columns of COMPARED where there are any."""
        rows: Rows = self.fields[self.list_name]  # type: ignore[assignment]  # list_name names one
        return rows.row_schema


def _account_id() -> fields.UUID:
    return fields.UUID(metadata={"example": ACCOUNT_ID["example"]})


def _filters() -> tuple[fields.String, ...]:
    """Return a field for each of FILTERS, present where it was given."""
    return tuple(fields.String() for _ in FILTERS)


def _period(names: Iterable[str] = PERIOD_DAYS) -> fields.String:
    return fields.String(validate=OneOf([*names, CUSTOM]))


def _total(column: str = "total", example: int = 1840) -> fields.Integer:
    description = f"The exact {column}, in the unit that the database stores; it is never converted."
    return fields.Integer(metadata={"description": description, "example": example})


def _within(highest: int) -> fields.Integer:
    return fields.Integer(validate=Range(1, highest))


def _count(description: str, example: int = 1) -> fields.Integer:
    return fields.Integer(validate=Range(0), metadata={"description": description, "example": example})


class Account(Schema):
    """An account and how to name it."""

    account_id = _account_id()
    account_name = fields.String(
        allow_none=True, metadata={"description": "Null when unset.", "example": "Nova Records"}
    )
    account_email = fields.Email(
        allow_none=True,
        metadata={
            "description": "The most recently updated address; null when there is none.",
            "example": "ops@nova.example",
        },
    )


def _account() -> fields.Nested:
    return fields.Nested(Account, allow_none=True, metadata={"description": "Null when there is no such account."})


class RollupRow(Account):
    """The credits that one account spent in the window; COMPARED with ``compare=previous``."""

    total_credits_deducted_cents = _total()
    event_count = _count("Number of events in the total.")
    previous_credits_deducted_cents = _total("total of the previous window", 0)
    previous_event_count = _count("Number of events in the previous window.", 0)


class Totals(Schema):
    """What columns of a list add up to, on all pages; COMPARED where the rows have these."""

    total_credits_deducted_cents = _total("total of the list")
    event_count = _count("Number of events in the total.")
    previous_credits_deducted_cents = _total("total of the list in the previous window", 0)
    previous_event_count = _count("Number of events in that total.", 0)


class ChangesTotals(Totals):
    """What the columns of the changes add up to, on all pages."""

    change_credits_deducted_cents = _total("sum of the changes")


class RollupEnvelope(Envelope):
    """The body of a 200; ``total_count`` is the number of accounts in the window, ``rows`` are one page of them."""

    period = _period()
    model, provider, source, agent_type = _filters()
    page = _within(MAX_PAGE)
    limit = _within(MAX_LIMIT)
    total_count = _count("Number of accounts on all pages.")
    totals = fields.Nested(Totals)
    rows = Rows(RollupRow)


class ChangesRow(RollupRow):
    """What one account spent in the window and in the previous one."""

    change_credits_deducted_cents = _total("change from the previous window")


class ChangesEnvelope(Envelope):
    """The body of a 200; ``total_count`` counts the accounts with an event in either window, ``rows`` are one page."""

    period = _period(name for name, days in PERIOD_DAYS.items() if days)
    model, provider, source, agent_type = _filters()
    page = _within(MAX_PAGE)
    limit = _within(MAX_LIMIT)
    total_count = _count("Number of accounts on all pages.")
    totals = fields.Nested(ChangesTotals)
    rows = Rows(ChangesRow)


class BreakdownRow(Schema):
    """What the events of one key add up to in the window; COMPARED with ``compare=previous``."""

    key = fields.String(
        allow_none=True,
        metadata={"description": "The value of the column, null where it is null.", "example": "large-1"},
    )
    total_credits_deducted_cents = _total()
    event_count = _count("Number of events in the total.")
    input_tokens = fields.Integer(metadata={"example": 1200})
    cached_input_tokens = fields.Integer(metadata={"example": 200})
    output_tokens = fields.Integer(metadata={"example": 300})
    tool_call_count = fields.Integer(metadata={"example": 2})
    previous_credits_deducted_cents = _total("total of the previous window", 0)
    previous_event_count = _count("Number of events in the previous window.", 0)


class BreakdownEnvelope(Envelope):
    """The body of a 200; ``account_id`` is present when it was given, ``rows`` are one page of the keys."""

    by = fields.String(validate=OneOf(BREAKDOWN_KEYS))
    account_id = _account_id()
    period = _period()
    model, provider, source, agent_type = _filters()
    page = _within(MAX_PAGE)
    limit = _within(MAX_LIMIT)
    total_count = _count("Number of keys on all pages.")
    totals = fields.Nested(Totals)
    rows = Rows(BreakdownRow)


class Event(Schema):
    """One debit."""

    id = fields.String(metadata={"example": "evt_0001"})
    created_at = Timestamp(metadata={"example": "2026-10-31T10:15:00.000000+00:00"})
    source = fields.String(validate=OneOf(["web", "api"]), metadata={"example": "web"})
    agent_type = fields.String(validate=OneOf(["main", "subagent"]), metadata={"example": "main"})
    provider = fields.String(allow_none=True, metadata={"example": "acme"})
    model_id = fields.String(allow_none=True, metadata={"example": "large-1"})
    input_tokens = fields.Integer(metadata={"example": 1200})
    cached_input_tokens = fields.Integer(metadata={"example": 200})
    output_tokens = fields.Integer(metadata={"example": 300})
    tool_call_count = fields.Integer(metadata={"example": 2})
    credits_deducted_cents = _total("amount")


class Grant(Schema):
    """A balance that staff set by hand."""

    id = fields.UUID(metadata={"example": "7d3f7a52-64a0-4c0c-9f5f-0d3a4f6f1c11"})
    account_id = _account_id()
    created_at = Timestamp(metadata={"example": "2026-10-31T09:00:00.000000+00:00"})
    granted_by = fields.UUID(metadata={"example": "5b0a6c7e-2a53-4f0e-9c58-0c9c1d3f2a10"})
    reason = fields.String(allow_none=True, metadata={"example": "welcome credits"})
    previous_credits = fields.Integer(
        allow_none=True, metadata={"description": "The balance before; null when unknown.", "example": None}
    )
    remaining_credits = fields.Integer(metadata={"description": "The balance that was set.", "example": 5000})


class EventsEnvelope(Envelope):
    """The body of a 200; ``total_count`` is the number of the account's events in the window, without grants."""

    account_id = _account_id()
    period = _period()
    model, provider, source, agent_type = _filters()
    page = _within(MAX_PAGE)
    limit = _within(MAX_LIMIT)
    total_count = _count("Number of events on all pages; grants do not count.")
    account = _account()
    events = Rows(Event)
    grants = Rows(Grant)


class Day(Schema):
    """The credits spent on one UTC day; zeros on a day without events."""

    day = fields.Date(metadata={"example": "2026-10-31"})
    total_credits_deducted_cents = _total()
    event_count = _count("Number of events in the total.")


class DaysEnvelope(Envelope):
    """The body of a 200; ``account_id`` and ``account`` are present when an account was given."""

    account_id = _account_id()
    period = _period()
    model, provider, source, agent_type = _filters()
    total_count = _count("Number of days.")
    account = _account()
    days = Rows(Day)


class SeriesRow(Schema):
    """What the events of one key, or of the rest of the keys, add up to in one bucket of time."""

    start = Timestamp(
        metadata={
            "description": "The start of the bucket. The first bucket may start before the window.",
            "example": "2026-10-31T00:00:00.000000+00:00",
        }
    )
    key = fields.String(
        allow_none=True,
        metadata={
            "description": "The value of the column; null where it is null, and for the rest.",
            "example": "large-1",
        },
    )
    rest = fields.Boolean(
        metadata={"description": "Whether the row is of all keys that have no rows of their own.", "example": False}
    )
    total_credits_deducted_cents = _total()
    event_count = _count("Number of events in the total.")


class SeriesEnvelope(Envelope):
    """The body of a 200; ``by`` and ``account_id`` are present when they were given."""

    period = _period()
    model, provider, source, agent_type = _filters()
    by = fields.String(validate=OneOf(BREAKDOWN_KEYS))
    bucket = fields.String(validate=OneOf(BUCKETS))
    top = _within(MAX_TOP)
    account_id = _account_id()
    total_count = _count("Number of rows.")
    rows = Rows(SeriesRow)


class Liveness(Schema):
    """The body of /health/live."""

    status = fields.Constant("success")


class ReadinessReport(Schema):
    """The body of /health/ready; ``error`` is present when a check fails, otherwise ``spend_source``."""

    status = fields.String(validate=OneOf(["success", "error"]))
    error = fields.String()
    checks = fields.Dict(keys=fields.String(), values=fields.String(validate=OneOf(["ok", "failed"])))
    spend_source = fields.String(
        validate=OneOf(["events", "sums"]), metadata={"description": "What answers come from now."}
    )
