"""JSON: the envelope of a list, in one line."""

import hashlib
import json
from typing import Any

import orjson

from service.listing import List
from service.question import Question
from service.representations.written import Context, Written
from service.schemas.responses import Envelope

MEDIA_TYPE = "application/json"
# The envelope has more than the rows, and they are one page of a list unless it has no pages.
ONLY_ROWS = False


def write(envelope: Envelope, question: Question, listed: List, context: Context) -> Written:
    """Write a list as the body of a 200."""
    rows = [dict(zip(listed.columns, row, strict=True)) for row in listed.rows]
    found = {"total_count": len(rows) if listed.total_count is None else listed.total_count, envelope.list_name: rows}
    body = _exact(envelope.dump({**question.arguments, **found, **listed.beside}))
    digest = hashlib.sha256(f"{context.caller} {MEDIA_TYPE} ".encode() + body)
    return Written(body, len(body), digest.hexdigest(), len(rows), MEDIA_TYPE)


def _exact(content: dict[str, Any]) -> bytes:
    """Return JSON whose integers are exact, however long."""
    try:
        return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        # An integer of more than 64 bits, which only the slower standard library writes.
        return f"{json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n".encode()
