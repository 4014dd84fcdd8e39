"""What the service answers: rows and envelopes, each column once, in the order of its query file."""

from datetime import datetime
from typing import Any

from marshmallow import Schema, fields

# What the reference says of every sum.
SUM = {"description": "Exact, as stored; the unit is the database's and is never converted."}


class Timestamp(fields.Field[datetime]):
    """An instant in UTC with six fractional digits; isoformat() alone drops a zero fraction."""

    def _serialize(self, value: datetime | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:  # noqa: ARG002 - marshmallow's signature
        return value.isoformat(timespec="microseconds") if value else None


class Rows(fields.List[Any]):
    """Rows of a query file, of one schema.

    They have the schema's columns, in its order, and text and integers as JSON spells them already: tests hold every
    query file to that. So only the other columns are dumped, which for 500 rows is most of the work saved.
    """

    def __init__(self, schema: type[Schema]) -> None:
        super().__init__(fields.Nested(schema))
        spelled = schema().fields
        self._dumped = {
            name: field for name, field in spelled.items() if not isinstance(field, fields.String | fields.Integer)
        }

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - marshmallow's signature
        if not self._dumped:
            return value
        # Not serialize(): it would look for the value, and every row has every column.
        return [
            row | {name: field._serialize(row[name], name, row) for name, field in self._dumped.items()}
            for row in value
        ]


class RollupRow(Schema):
    """One account's spend in the window."""

    account_id = fields.String()
    account_name = fields.String(allow_none=True, metadata={"description": "Null when unset."})
    account_email = fields.String(
        allow_none=True, metadata={"description": "The most recently updated address; null when there is none."}
    )
    total_credits_deducted_cents = fields.Integer(metadata=SUM)
    event_count = fields.Integer(metadata={"description": "Events summed."})


class RollupEnvelope(Schema):
    """The body of a 200; ``total_count`` is the number of accounts in the window, of which ``rows`` are one page."""

    status = fields.Constant("success")
    period = fields.String()
    page = fields.Integer()
    limit = fields.Integer()
    total_count = fields.Integer(metadata={"description": "Accounts in the window, before paging."})
    rows = Rows(RollupRow)


class Event(Schema):
    """One debit."""

    id = fields.String()
    created_at = Timestamp()
    source = fields.String()
    agent_type = fields.String()
    provider = fields.String(allow_none=True)
    model_id = fields.String(allow_none=True)
    input_tokens = fields.Integer()
    cached_input_tokens = fields.Integer()
    output_tokens = fields.Integer()
    tool_call_count = fields.Integer()
    credits_deducted_cents = fields.Integer(metadata=SUM)


class Grant(Schema):
    """A balance that staff set by hand."""

    id = fields.String()
    account_id = fields.String()
    created_at = Timestamp()
    granted_by = fields.String()
    reason = fields.String(allow_none=True)
    previous_credits = fields.Integer(allow_none=True, metadata={"description": "The balance before, where known."})
    remaining_credits = fields.Integer(metadata={"description": "The balance that was set."})


class Day(Schema):
    """One UTC day's spend; zeros on a day without events."""

    day = fields.Date()
    total_credits_deducted_cents = fields.Integer(metadata=SUM)
    event_count = fields.Integer(metadata={"description": "Events summed."})


class EventsEnvelope(Schema):
    """The body of a 200; ``total_count`` counts the account's events in the window, not its grants."""

    status = fields.Constant("success")
    account_id = fields.String()
    period = fields.String()
    page = fields.Integer()
    limit = fields.Integer()
    total_count = fields.Integer(metadata={"description": "Events in the window, before paging; not the grants."})
    events = Rows(Event)
    grants = Rows(Grant)


class DaysEnvelope(Schema):
    """The body of a 200; ``total_count`` is the number of days, ``account_id`` is there when it was asked for."""

    status = fields.Constant("success")
    account_id = fields.String()
    period = fields.String()
    total_count = fields.Integer(metadata={"description": "Days listed."})
    days = Rows(Day)
