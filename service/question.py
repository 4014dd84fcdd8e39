"""What is asked: checked arguments and a window, and the parameters of query files that follow from them.

`make psql` asks through it too.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from werkzeug.datastructures import MultiDict

from service.errors import DatabaseBehind
from service.periods import Window, window_of
from service.queries import NO_FILTER
from service.schemas.requests import FILTERS, PREVIOUS, WindowArguments, load_arguments

ALL_ROWS = {"limit": 2**63 - 1, "offset": 0}
# What does not restrict a list.
UNRESTRICTED = {"account_id": "", "by": "", "only": "", "search": "", "filters": NO_FILTER}


@dataclass(frozen=True)
class Question:
    """The arguments of a request by name, their window, and the edges of the window to compare with, if any.

    ``names_page`` tells whether ``limit`` or ``page`` is given. ``only_rows`` is set for a representation that has
    nothing beside the rows of a list, and all of them unless a page is named.
    """

    arguments: Mapping[str, Any]
    window: Window
    previous: tuple[datetime, datetime] | None
    names_page: bool
    only_rows: bool = False

    @property
    def is_paged(self) -> bool:
        """Whether one page is asked for, and not all rows."""
        return "page" in self.arguments and (self.names_page or not self.only_rows)

    @property
    def with_totals(self) -> bool:
        """Whether the columns of all pages are to be added up."""
        return bool(self.arguments.get("with_totals"))

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """The values of the parameters of query files, and other arguments, which psycopg2 ignores."""
        parameters = {**UNRESTRICTED, **self.arguments, **self.window.parameters(self.previous), **ALL_ROWS}
        parameters["totals"] = self.with_totals
        filters = {name: self.arguments[name] for name in FILTERS if name in self.arguments}
        if filters:
            parameters["filters"] = json.dumps(filters, ensure_ascii=False)
        if self.is_paged:
            limit = self.arguments["limit"]
            parameters |= {"limit": limit, "offset": (self.arguments["page"] - 1) * limit}
        return parameters


def asked(
    schema: WindowArguments, query: MultiDict[str, str], now: datetime, replayed: datetime | None = None
) -> Question:
    """Return the question that a query string asks at ``now``, or on a standby at the instant that it has replayed.

    Raises:
        BadParameters: when an argument is refused.
        DatabaseBehind: when the standby has not reached an edge of the window.
    """
    # The clocks of a standby and of its primary may differ.
    instant = replayed or now
    arguments = load_arguments(schema, query, max(now, instant))
    as_of, since = arguments.get("as_of"), arguments.get("since")
    if (as_of or since or instant) > instant:
        raise DatabaseBehind
    window = window_of(arguments["period"], instant, as_of, since)
    names_page = not query.keys().isdisjoint(("limit", "page"))
    compare = arguments.get("compare")
    previous = window.previous if compare == PREVIOUS else compare
    return Question(arguments, window, previous, names_page)
