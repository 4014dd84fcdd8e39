"""The result of a view, for any list and any representation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class List:
    """The rows of a list, each a tuple in the order of ``columns``.

    An iterator of rows reads them from the snapshot. ``total_count`` is the length of the list on all pages, None where
    it was not counted. ``queries`` are the names of the query files that it came from, its own first. ``beside`` holds
    what else belongs to the answer, by key.
    """

    columns: tuple[str, ...]
    rows: Iterable[tuple[Any, ...]]
    total_count: int | None
    queries: tuple[str, ...]
    beside: Mapping[str, Any] = field(default_factory=dict)
