"""The representations of a list, and which one a client prefers. Nothing else reads the Accept header."""

import re
from types import ModuleType

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from service.errors import NotAcceptable
from service.representations import csv, json, metrics, metrics_text, workbook
from service.schemas.responses import Envelope

# The first is served where a client is indifferent.
REPRESENTATIONS = (json, csv, workbook, metrics, metrics_text)


def representations_of(envelope: Envelope) -> tuple[ModuleType, ...]:
    """Return the representations of a list."""
    if metrics.describes(envelope):
        return REPRESENTATIONS
    return tuple(representation for representation in REPRESENTATIONS if representation not in (metrics, metrics_text))


def media_types_of(envelope: Envelope) -> tuple[str, ...]:
    """Return the media types of a list."""
    return tuple(representation.MEDIA_TYPE for representation in representations_of(envelope))


def negotiated(header: str | None, envelope: Envelope) -> ModuleType:
    """Return the representation of a list that an Accept header prefers.

    Raises:
        NotAcceptable: when it accepts none.
    """
    # URLConnection of Java 8 sends "*; q=.2". Werkzeug drops a range with such a quality.
    accept = parse_accept_header(re.sub(r"(;\s*q=)(?=\.)", r"\g<1>0", header or ""), MIMEAccept)
    ranges = [(re.split(r"\s*;\s*", media.strip().lower()), quality) for media, quality in accept]
    offered = representations_of(envelope)
    qualities = [_quality(ranges, representation.MEDIA_TYPE) for representation in offered]
    if not any(qualities):
        raise NotAcceptable(media_types_of(envelope))
    return offered[qualities.index(max(qualities))]


def _quality(ranges: list[tuple[list[str], float]], offer: str) -> float:
    """Return the quality that the most specific range of the Accept header gives a media type (RFC 9110, 12.5.1).

    A range with the type must also have the parameter of the offer, if it has one: a client that reads any text/plain
    does not read metrics. Other parameters of a range are ignored, because each type is served in one form.
    """
    if not ranges:
        return 1.0
    media_type, _, parameter = offer.partition(";")
    exact = [quality for (media, *given), quality in ranges if media == media_type and parameter in (*given, "")]
    for found in (
        exact,
        [quality for (media, *_), quality in ranges if media == f"{media_type.partition('/')[0]}/*"],
        [quality for (media, *_), quality in ranges if media in ("*/*", "*")],
    ):
        if found:
            return max(found)
    return 0.0
