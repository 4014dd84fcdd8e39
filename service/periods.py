"""Periods and the instant of a request, turned into the edges of a window.

Periods are whole UTC calendar days, today included; UTC has no daylight saving, so a day is 24 hours.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

PERIOD_DAYS = {"all": None, "daily": 1, "weekly": 7, "monthly": 30}


@dataclass(frozen=True)
class Window:
    """A half-open span of time: ``since`` inclusive, ``until`` exclusive, None where there is no edge."""

    since: datetime | None
    until: datetime | None

    def parameters(self) -> dict[str, str]:
        """Spell the edges as PostgreSQL reads a timestamptz, for every query file that takes a window."""
        return {
            "since": self.since.isoformat() if self.since else "-infinity",
            "until": self.until.isoformat() if self.until else "infinity",
        }


def window_of(period: str, now: datetime) -> Window:
    """Return the window of a period (a key of PERIOD_DAYS) at an instant; it has no upper edge."""
    days = PERIOD_DAYS[period]
    if days is None:
        return Window(None, None)
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Window(midnight - timedelta(days=days - 1), None)
