"""Metrics: a gauge for each column of numbers, in the text format of OpenMetrics, for Prometheus to scrape a list."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from marshmallow import fields
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from service.listing import List
from service.question import Question
from service.representations.written import Context, Written
from service.schemas.requests import BREAKDOWN_KEYS
from service.schemas.responses import Envelope

MEDIA_TYPE = "application/openmetrics-text"
# Pages as in JSON, so that the number of series is bounded.
ONLY_ROWS = False
# The columns that become labels; an address never does. A list has metrics if its rows begin with one of them.
LABELS = ("account_id", "account_name", "key")
# The arguments that become labels where they are given: what tells one list from another. A search may be an address.
ARGUMENTS = ("period", "by", "account_id", *BREAKDOWN_KEYS, "only")


def write(envelope: Envelope, question: Question, listed: List, context: Context) -> Written:
    """Write the rows of a list as gauges."""
    return written(Gauges(envelope, question, listed, context), generate_latest, CONTENT_TYPE_LATEST, context)


def describes(envelope: Envelope) -> bool:
    """Whether a list has metrics: one whose rows are accounts or keys, and not days or events."""
    return next(iter(envelope.row_schema.fields)) in LABELS


class Gauges:
    """The gauges of a list, for prometheus-client."""

    def __init__(self, envelope: Envelope, question: Question, listed: List, context: Context) -> None:
        self._columns = listed.columns
        self._rows = list(listed.rows)
        self._list_name = context.list_name
        self._arguments = {name: question.arguments[name] for name in ARGUMENTS if name in question.arguments}
        schema = envelope.row_schema.fields
        self._numbers = [name for name in listed.columns if isinstance(schema[name], fields.Integer)]

    @property
    def row_count(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        labels = [name for name in LABELS if name in self._columns]
        places = [self._columns.index(name) for name in labels]
        for name in self._numbers:
            column = self._columns.index(name)
            gauge = GaugeMetricFamily(
                metric_name(self._list_name, name),
                f"The column {name} of the list {self._list_name}.",
                labels=[*labels, *self._arguments],
            )
            # To Prometheus no label and an empty one are the same. So null and the empty text are one key, as they are
            # for the filters.
            sums: dict[tuple[str, ...], int] = defaultdict(int)
            for row in self._rows:
                sums[tuple(row[place] or "" for place in places)] += row[column]
            for values, number in sums.items():
                gauge.add_metric([*values, *self._arguments.values()], number)
            yield gauge


def metric_name(list_name: str, column: str) -> str:
    """Return the name of the gauge of a column; only a histogram or a summary may have one that ends in _count."""
    return f"admin_credits_{list_name}_{re.sub('_count$', 's', column)}"


def written(gauges: Gauges, generate: Callable[[Any], bytes], content_type: str, context: Context) -> Written:
    """Return gauges in a format of prometheus-client."""
    body = generate(gauges)
    digest = hashlib.sha256(f"{context.caller} {content_type} ".encode() + body)
    return Written(body, len(body), digest.hexdigest(), gauges.row_count, content_type)
