"""Turn a period and the instant of a request into the edges of a window.

Periods are whole UTC calendar days; UTC has no daylight saving, so a day is 24 hours.
"""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Self

PERIOD_DAYS = {"all": None, "daily": 1, "weekly": 7, "monthly": 30}


@dataclass(frozen=True)
class Window:
    """A half-open span of time: ``since`` inclusive, ``until`` exclusive, None where there is no edge.

    ``as_of`` is the instant of the answer, None where it cannot be asked for again; ``last_day`` is the UTC day of the
    last moment before the end.
    """

    since: datetime | None
    until: datetime | None
    as_of: datetime | None
    last_day: date

    def on_standby(self, replayed: datetime | None) -> Self:
        """Return the window as of an instant up to which a standby has replayed all commits; later pages then agree."""
        if self.as_of is None or replayed is None or (self.since and replayed < self.since):
            return replace(self, as_of=None)
        return replace(self, as_of=min(self.as_of, replayed))

    def parameters(self) -> dict[str, str]:
        """Return the parameters ``since`` and ``until`` of a query file, as text of a timestamptz."""
        return {
            "since": self.since.isoformat() if self.since else "-infinity",
            "until": self.until.isoformat() if self.until else "infinity",
        }


def window_of(period: str, now: datetime, as_of: datetime | None = None) -> Window:
    """Return the window of a period, a key of PERIOD_DAYS.

    Without ``as_of`` the window has no upper edge and its last day is today. With it the window ends there, and its
    last day is that of the last microsecond before: as of midnight, the last day is the one that has just ended.
    """
    last_moment = (as_of - timedelta(microseconds=1) if as_of else now).astimezone(UTC)
    midnight = last_moment.replace(hour=0, minute=0, second=0, microsecond=0)
    days = PERIOD_DAYS[period]
    since = None if days is None else midnight - timedelta(days=days - 1)
    return Window(since, as_of, as_of or now, last_moment.date())
