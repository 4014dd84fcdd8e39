"""The representations of a list, and which one a client prefers. Nothing else reads the Accept header."""

import re
from types import ModuleType

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from service.errors import NotAcceptable
from service.representations import csv, json

# The first is served where a client is indifferent.
REPRESENTATIONS = (json, csv)
MEDIA_TYPES = tuple(representation.MEDIA_TYPE for representation in REPRESENTATIONS)


def negotiated(header: str | None) -> ModuleType:
    """Return the representation that an Accept header prefers.

    Raises:
        NotAcceptable: when it accepts none.
    """
    # URLConnection of Java 8 sends "*; q=.2". Werkzeug drops a range with such a quality.
    accept = parse_accept_header(re.sub(r"(;\s*q=)(?=\.)", r"\g<1>0", header or ""), MIMEAccept)
    qualities = [_quality(accept, media_type) for media_type in MEDIA_TYPES]
    if not any(qualities):
        raise NotAcceptable(MEDIA_TYPES)
    return REPRESENTATIONS[qualities.index(max(qualities))]


def _quality(accept: MIMEAccept, offer: str) -> float:
    """Return the quality that the most specific range of the Accept header gives a media type (RFC 9110, 12.5.1).

    Parameters of a range are ignored, because each type is served in one form.
    """
    if not accept:
        return 1.0
    for fitting in ({offer}, {f"{offer.partition('/')[0]}/*"}, {"*/*", "*"}):
        found = [quality for media, quality in accept if media.partition(";")[0].strip().lower() in fitting]
        if found:
            return max(found)
    return 0.0
