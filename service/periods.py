"""Turn a period or a start, and the instant of a request, into the edges of a window and of the previous one.

Periods are whole UTC calendar days; UTC has no daylight saving, so a day is 24 hours.
"""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Self

PERIOD_DAYS = {"all": None, "daily": 1, "weekly": 7, "monthly": 30}
# The period of a window that has a start of its own.
CUSTOM = "custom"


@dataclass(frozen=True)
class Window:
    """A half-open span of time: ``since`` inclusive, ``until`` exclusive, None where there is no edge.

    ``end`` is ``until``, or the instant of the answer; ``last_day`` is the UTC day of the last moment before. ``days``
    is the length of the period, None for another window. ``is_repeatable`` tells whether a later request with
    ``end`` as its ``as_of`` gets the same rows.
    """

    since: datetime | None
    until: datetime | None
    end: datetime
    last_day: date
    days: int | None
    is_repeatable: bool = True

    @property
    def as_of(self) -> datetime | None:
        """The instant at which the answer can be asked for again."""
        return self.end if self.is_repeatable else None

    @property
    def previous(self) -> tuple[datetime, datetime] | None:
        """The edges of the same span earlier: by the days of the period, or just before ``since``."""
        if self.since is None:
            return None
        shift = timedelta(days=self.days) if self.days else self.end - self.since
        return self.since - shift, self.end - shift

    def on_standby(self, replayed: datetime | None) -> Self:
        """Return the window as of an instant up to which a standby has replayed all commits; later pages then agree.

        A window that ends later, or has not begun then, is not repeatable.
        """
        if replayed is None or (self.until and replayed < self.until) or (self.since and replayed <= self.since):
            return replace(self, is_repeatable=False)
        return replace(self, end=min(self.end, replayed))

    def parameters(self) -> dict[str, str]:
        """Return the parameters of query files that are edges of the window or of the previous one, as text."""
        edges = {
            "since": self.since.isoformat() if self.since else "-infinity",
            "until": self.until.isoformat() if self.until else "infinity",
            "last_day": self.last_day.isoformat(),
        }
        if self.previous:
            edges["previous_since"], edges["previous_until"] = (edge.isoformat() for edge in self.previous)
        return edges


def window_of(period: str, now: datetime, as_of: datetime | None = None, since: datetime | None = None) -> Window:
    """Return the window of a period, a key of PERIOD_DAYS, or the one from ``since`` if the period is CUSTOM.

    Without ``as_of`` the window has no upper edge and its last day is today. With it the window ends there, and its
    last day is that of the last microsecond before: as of midnight, the last day is the one that has just ended.
    """
    last_moment = (as_of - timedelta(microseconds=1) if as_of else now).astimezone(UTC)
    days = PERIOD_DAYS.get(period)
    if days:
        midnight = last_moment.replace(hour=0, minute=0, second=0, microsecond=0)
        since = midnight - timedelta(days=days - 1)
    return Window(since, as_of, as_of or now, last_moment.date(), days)
