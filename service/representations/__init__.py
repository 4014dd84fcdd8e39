"""The representations of a list, and which one a client prefers. Nothing else reads the Accept header."""

from types import ModuleType

from werkzeug.datastructures import MIMEAccept

from service.errors import NotAcceptable
from service.representations import csv, json

# The first is served where a client is indifferent.
REPRESENTATIONS = (json, csv)


def negotiated(accept: MIMEAccept) -> ModuleType:
    """Return the representation that an Accept header prefers.

    Raises:
        NotAcceptable: when it accepts none.
    """
    qualities = [_quality(accept, representation.MEDIA_TYPE) for representation in REPRESENTATIONS]
    if not any(qualities):
        raise NotAcceptable
    return REPRESENTATIONS[qualities.index(max(qualities))]


def _quality(accept: MIMEAccept, offer: str) -> float:
    """Return the quality that the most specific range of the Accept header gives a media type (RFC 9110, 12.5.1).

    Parameters of a range are ignored, because each type is served in one form.
    """
    if not accept:
        return 1.0
    for fitting in (offer, f"{offer.partition('/')[0]}/*", "*/*"):
        found = [quality for media, quality in accept if media.partition(";")[0].strip().lower() == fitting]
        if found:
            return max(found)
    return 0.0
