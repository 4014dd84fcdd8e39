"""What a client may send: every bound and every rule."""

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields
from marshmallow.validate import OneOf, Range
from werkzeug.datastructures import MultiDict

from service.errors import BadParameters
from service.periods import PERIOD_DAYS

MAX_LIMIT = 500
# The largest page whose offset is a bigint at the largest limit.
MAX_PAGE = 18_446_744_073_709_551


class AsciiInteger(fields.Integer):
    """One to twenty ASCII digits and nothing around them; Python's int() takes much more."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:  # noqa: ARG002 - marshmallow's signature
        if not re.fullmatch(r"[0-9]{1,20}", value):
            raise self.make_error("invalid")
        return int(value)


def _integer(default: int, highest: int) -> AsciiInteger:
    sentence = f"must be an integer from 1 to {highest}"
    return AsciiInteger(
        load_default=default,
        validate=Range(1, highest, error=sentence),
        error_messages={"invalid": sentence},
    )


class PageArguments(Schema):
    """What every paged endpoint takes. ``period``: UTC calendar days, today included. ``page``: counted from 1."""

    error_messages = {"unknown": "is not a parameter of this endpoint"}  # noqa: RUF012 - as marshmallow declares it

    period = fields.String(
        load_default="monthly",
        validate=OneOf(PERIOD_DAYS, error="must be one of " + ", ".join(PERIOD_DAYS)),
    )
    limit = _integer(100, MAX_LIMIT)
    page = _integer(1, MAX_PAGE)


class RollupArguments(PageArguments):
    """Query string of the rollup."""


class HyphenatedUUID(fields.String):
    """A UUID in its hyphenated form, either case, as lower-case text; marshmallow's own takes other forms too."""

    default_error_messages = {"invalid": "must be a UUID in its hyphenated form"}  # noqa: RUF012 - as marshmallow declares it

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:  # noqa: ARG002 - marshmallow's signature
        if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value):
            raise self.make_error("invalid")
        return str(value).lower()


class EventsArguments(PageArguments):
    """Query string of the drill-down."""

    account_id = HyphenatedUUID(required=True, error_messages={"required": "is required"})


def load_arguments(schema: Schema, query: MultiDict[str, str]) -> dict[str, Any]:
    """Return the arguments of a query string.

    Raises:
        BadParameters: naming every parameter that is malformed, out of bounds, missing, unknown or repeated.

    """
    problems = {name: "is given more than once" for name, values in query.lists() if len(values) > 1}
    try:
        arguments: dict[str, Any] = schema.load(query.to_dict())
    except ValidationError as error:
        problems = {name: " ".join(sentences) for name, sentences in error.messages_dict.items()} | problems
    if problems:
        raise BadParameters(problems)
    return arguments
