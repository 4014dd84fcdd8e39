"""What a client may send: all bounds, and all rules between parameters."""

import re
from collections.abc import Collection, Container, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields
from marshmallow.validate import ContainsNoneOf, Length, OneOf, Range
from werkzeug.datastructures import MultiDict

from service.errors import BadParameters
from service.periods import CUSTOM, PERIOD_DAYS, window_of

MAX_LIMIT = 500
# At the largest limit, limit + offset of this page is a bigint.
MAX_PAGE = 18_446_744_073_709_551

BREAKDOWN_KEYS = ("model", "provider", "source", "agent_type")
EVENT_ORDERS = ("created_at", "credits")
CHANGES_KEPT = ("started", "stopped", "up", "down")
# What restricts a list to the events with one value of it.
FILTERS = BREAKDOWN_KEYS
BUCKETS = ("hour", "day", "week", "month")
LONGEST_BY_HOUR = timedelta(days=14)
MAX_TOP = 20
# The window to compare with that is a span earlier.
PREVIOUS = "previous"

HYPHENATED_UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
# The metadata of an account id in the reference.
ACCOUNT_ID = {
    "format": "uuid",
    "pattern": f"^{HYPHENATED_UUID}$",
    "example": "3c90c3cc-0d44-4b50-8888-8dd25736052a",
}

ONE_OR_ALL = "The account; all accounts together without it."
# The metadata of an Instant in the reference.
INSTANT = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]}


class AsciiInteger(fields.Integer):
    """One to twenty ASCII digits; Python's int() also accepts signs, spaces, underscores and other scripts' digits."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:  # noqa: ARG002 - marshmallow's signature
        if not re.fullmatch(r"[0-9]{1,20}", value):
            raise self.make_error("invalid")
        return int(value)


class HyphenatedUUID(fields.String):
    """A UUID in its hyphenated form, in either case, loaded as lower-case text.

    marshmallow's UUID also accepts braces, ``urn:`` and no hyphens.
    """

    default_error_messages = {"invalid": "must be a UUID in its hyphenated form"}  # noqa: RUF012 - as marshmallow declares it

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:  # noqa: ARG002 - marshmallow's signature
        if not re.fullmatch(HYPHENATED_UUID, value):
            raise self.make_error("invalid")
        return str(value).lower()


class Instant(fields.Field[datetime]):
    """An RFC 3339 date-time with at most six fractional digits, or a date, which is 00:00 UTC of that day.

    ``first_year`` is the earliest year in UTC; the last is 9998.
    """

    PATTERN = re.compile(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
        r"([Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))?"
    )

    def __init__(self, first_year: int, **options: Any) -> None:
        sentence = f"must be an RFC 3339 date-time such as 2026-11-22T10:15:00Z, or a date, from {first_year} to 9998"
        hint = "has a space where a + is meant: write + as %2B, or the instant in UTC with Z"
        super().__init__(error_messages={"invalid": sentence, "space": hint}, **options)
        self._first_year = first_year

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> datetime:  # noqa: ARG002 - marshmallow's signature
        if not self.PATTERN.fullmatch(value):
            raise self.make_error("space" if self.PATTERN.fullmatch(value.replace(" ", "+")) else "invalid")
        try:
            text = f"{value}T00Z" if len(value) == len("2026-11-22") else value.upper()
            instant = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            # no such day, a leap second, or an offset that leads out of the calendar
            raise self.make_error("invalid") from None
        if not self._first_year <= instant.year <= 9998:
            raise self.make_error("invalid")
        return instant


class Comparison(fields.Field[Any]):
    """The window to compare with: PREVIOUS, or an interval of two instants or dates, loaded as its edges."""

    default_error_messages = {  # noqa: RUF012 - as marshmallow declares it
        "invalid": "must be previous, or an interval such as 2026-09-01/2026-10-01",
        "reversed": "must start before it ends",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:  # noqa: ARG002 - marshmallow's signature
        if value == PREVIOUS:
            return value
        # the previous window of one since 1970 can be asked for too
        instant = Instant(first_year=1900)
        try:
            start, end = (instant.deserialize(edge) for edge in value.split("/"))
        except (ValueError, ValidationError):
            raise self.make_error("invalid") from None
        if start >= end:
            raise self.make_error("reversed")
        return start, end


def _text(length: Length, **options: Any) -> fields.String:
    # PostgreSQL has no text with it.
    return fields.String(validate=[length, ContainsNoneOf("\0", error="must not contain NUL")], **options)


def _filters() -> tuple[fields.String, ...]:
    """Return a field for each of FILTERS."""
    description = "Only events with exactly this value; empty: those without one."
    length = Length(max=500, error="must be at most {max} characters")
    return tuple(_text(length, metadata={"description": description}) for _ in FILTERS)


def _integer(default: int, highest: int, description: str) -> AsciiInteger:
    sentence = f"must be an integer from 1 to {highest}"
    return AsciiInteger(
        load_default=default,
        validate=Range(1, highest, error=sentence),
        error_messages={"invalid": sentence},
        metadata={"description": description},
    )


def _one_of(names: Collection[str]) -> OneOf:
    return OneOf(names, error="must be one of {choices}")


def _period(names: Collection[str]) -> fields.String:
    no_cutoff = "; all: no cutoff" if "all" in names else ""
    return fields.String(
        load_default="monthly",
        validate=_one_of(names),
        metadata={
            "description": f"The last 1, 7 or 30 UTC calendar days, today included{no_cutoff}.",
            "example": "daily",
        },
    )


def _search() -> fields.String:
    return _text(
        Length(1, 200, error="must be {min} to {max} characters"),
        data_key="q",
        metadata={
            "description": "Only accounts whose name or any address contains this text, in either case, or whose id "
            "begins with it, if it is eight or more characters of a hyphenated UUID. total_count counts these.",
            "example": "nova",
        },
    )


class WindowArguments(Schema):
    """Parameters of every endpoint. ``period``: UTC calendar days; ``since`` and ``as_of``: the edges of the window."""

    error_messages = {"unknown": "is not a parameter of this endpoint"}  # noqa: RUF012 - as marshmallow declares it
    period = _period(PERIOD_DAYS)
    since = Instant(
        # The previous window of one since 1970 can be asked for too.
        first_year=1900,
        metadata={
            "description": "The start of the window, inclusive, instead of a period: an instant, or a date for its "
            "00:00 UTC. It is not before 1900, and before the end of the window.",
            **INSTANT,
        },
    )
    as_of = Instant(
        first_year=1970,
        metadata={
            "description": "The end of the window, exclusive; not before 1970 and not in the future: an instant, or a "
            "date for its 00:00 UTC. Send back the As-Of of an answer to read its other pages. Without it the window "
            "ends at the instant of the request.",
            "example": "2026-11-01T00:00:00Z",
            **INSTANT,
        },
    )
    model, provider, source, agent_type = _filters()


class PageArguments(WindowArguments):
    """Parameters of every paged endpoint. ``page``: counted from 1."""

    limit = _integer(100, MAX_LIMIT, "Rows on a page.")
    page = _integer(1, MAX_PAGE, "Page, counted from 1; there is a next one while page * limit < total_count.")


def _compare(**options: Any) -> Comparison:
    return Comparison(
        metadata={
            "description": "The window to compare with: previous, which is the same window one period earlier and with "
            "since as long as the window, ending at since; or an interval of two instants or dates, start/end, that "
            "ends no later than the window starts. Not with period=all.",
            "example": "previous",
        },
        **options,
    )


class ComparedArguments(PageArguments):
    """Parameters of an endpoint that compares its rows with another window, and can add them up."""

    compare = _compare()
    # "totals" is a key of the answer.
    with_totals = fields.Boolean(
        data_key="totals",
        truthy={"true"},
        falsy={"false"},
        error_messages={"invalid": "must be true or false"},
        metadata={"description": "Add what the columns of credits and events of all pages add up to. Only in JSON."},
    )


class RollupArguments(ComparedArguments):
    """Query string of the rollup. ``search`` is ``q`` in a request; ``make psql`` uses Q for the query."""

    search = _search()


class BreakdownArguments(ComparedArguments):
    """Query string of the breakdown. ``by``: what its keys are."""

    by = fields.String(
        required=True,
        validate=_one_of(BREAKDOWN_KEYS),
        error_messages={"required": "is required"},
        metadata={"description": "What to add up by; model is the model_id of events.", "example": "model"},
    )
    account_id = HyphenatedUUID(metadata={"description": ONE_OR_ALL, **ACCOUNT_ID})


class ChangesArguments(ComparedArguments):
    """Query string of the changes, which are always compared with another window. ``search`` is ``q``."""

    period = _period([name for name, days in PERIOD_DAYS.items() if days])
    compare = _compare(load_default=PREVIOUS)
    search = _search()
    only = fields.String(  # type: ignore[assignment]  # marshmallow takes fields away from the class
        validate=_one_of(CHANGES_KEPT),
        metadata={
            "description": "Only accounts that started (no event in the previous window), that stopped (none in the "
            "window), or whose credits went up or down. total_count counts these.",
            "example": "up",
        },
    )


class EventsArguments(PageArguments):
    """Query string of the drill-down, the events of one account."""

    account_id = HyphenatedUUID(
        required=True,
        error_messages={"required": "is required"},
        metadata={"description": "The account.", **ACCOUNT_ID},
    )
    sort = fields.String(
        load_default="created_at",
        validate=_one_of(EVENT_ORDERS),
        metadata={
            "description": "created_at: newest first; credits: most credits first, then newest. Ids by code point, the "
            "greatest first, settle ties.",
            "example": "credits",
        },
    )


class DaysArguments(WindowArguments):
    """Query string of the days. ``account_id``: the account; all accounts together without it."""

    account_id = HyphenatedUUID(metadata={"description": ONE_OR_ALL, **ACCOUNT_ID})


class SeriesArguments(DaysArguments):
    """Query string of the series. ``by``: what its keys are; all events together without it."""

    by = fields.String(
        validate=_one_of(BREAKDOWN_KEYS),
        metadata={"description": "What to split each bucket by; model is the model_id of events.", "example": "model"},
    )
    bucket = fields.String(
        load_default="day",
        validate=_one_of(BUCKETS),
        metadata={
            "description": "The length of a bucket, in UTC. A week begins on Monday; hour needs a window of at most "
            f"{LONGEST_BY_HOUR.days} days.",
            "example": "day",
        },
    )
    top = _integer(8, MAX_TOP, "Keys with rows of their own: those with the most credits in the window.")


def load_arguments(schema: Schema, query: MultiDict[str, str], now: datetime) -> dict[str, Any]:
    """Return the arguments of a query string; ``now`` is the instant of the request.

    Raises:
        BadParameters: naming every parameter that is malformed, out of bounds, missing, unknown, repeated, in the
            future, or excluded by another.
    """
    problems = {name: "is given more than once" for name, values in query.lists() if len(values) > 1}
    try:
        arguments: dict[str, Any] = schema.load(query.to_dict())
    except ValidationError as error:
        arguments = dict(error.valid_data)  # type: ignore[arg-type]  # a dict, since one object was loaded
        problems = {name: " ".join(sentences) for name, sentences in error.messages_dict.items()} | problems
    if problems := _conflicts(arguments, query, now) | problems:
        raise BadParameters(problems)
    return arguments | ({"period": CUSTOM} if "since" in arguments else {})


def _conflicts(arguments: Mapping[str, Any], given: Container[str], now: datetime) -> dict[str, str]:
    """Return the problems of well-formed parameters that do not fit together."""
    problems = {}
    end = arguments.get("as_of", now)
    if end > now:
        problems["as_of"] = "must not be in the future"
    if "since" in arguments and arguments["since"] >= end:
        problems["since"] = "must be before the end of the window"
    if "since" in arguments and "period" in given:
        problems |= {"period": "must not be given with since", "since": "must not be given with period"}
    if "period" not in arguments:
        return problems
    period = CUSTOM if "since" in arguments else arguments["period"]
    window = window_of(period, now, arguments.get("as_of"), arguments.get("since"))
    compare = arguments.get("compare")
    if compare and window.since is None:
        problems["compare"] = "cannot be used with period=all"
    elif isinstance(compare, tuple) and window.since and compare[1] > window.since:
        problems["compare"] = "must not end after the start of the window"
    if arguments.get("bucket") == "hour" and (window.since is None or end - window.since > LONGEST_BY_HOUR):
        problems["bucket"] = f"must be day, week or month where the window is longer than {LONGEST_BY_HOUR.days} days"
    return problems
