"""Metrics in the older text format of Prometheus, for what does not read OpenMetrics."""

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from service.listing import List
from service.question import Question
from service.representations import metrics
from service.representations.written import Context, Written
from service.schemas.responses import Envelope

MEDIA_TYPE = "text/plain;version=0.0.4"
ONLY_ROWS = metrics.ONLY_ROWS


def write(envelope: Envelope, question: Question, listed: List, context: Context) -> Written:
    """Write the rows of a list as gauges."""
    gauges = metrics.Gauges(envelope, question, listed, context)
    return metrics.written(gauges, generate_latest, CONTENT_TYPE_PLAIN_0_0_4, context)
