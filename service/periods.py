"""Turn a period or a start, and the instant of a request, into the edges of a window and of the previous one.

Periods are whole UTC calendar days; UTC has no daylight saving, so a day is 24 hours.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

PERIOD_DAYS = {"all": None, "daily": 1, "weekly": 7, "monthly": 30}
# The period of a window that has a start of its own.
CUSTOM = "custom"


@dataclass(frozen=True)
class Window:
    """A half-open span of time: ``since`` inclusive, None where there is no edge, and ``until`` exclusive.

    ``until`` is the instant of the answer, at which it can be asked for again. ``last_day`` is the UTC day of the last
    moment before. ``days`` is the length of the period, None for another window.
    """

    since: datetime | None
    until: datetime
    last_day: date
    days: int | None

    @property
    def previous(self) -> tuple[datetime, datetime] | None:
        """The edges of the same span earlier: by the days of the period, or just before ``since``."""
        if self.since is None:
            return None
        shift = timedelta(days=self.days) if self.days else self.until - self.since
        return self.since - shift, self.until - shift

    def parameters(self, previous: tuple[datetime, datetime] | None) -> dict[str, str]:
        """Return the parameters of query files that are edges of the window or of the previous one, as text.

        Without a previous window its edges are both the start of the window, so that nothing lies in it.
        """
        since = self.since.isoformat() if self.since else "-infinity"
        previous_since, previous_until = (edge.isoformat() for edge in previous) if previous else (since, since)
        return {
            "since": since,
            "until": self.until.isoformat(),
            "last_day": self.last_day.isoformat(),
            "previous_since": previous_since,
            "previous_until": previous_until,
        }


def window_of(period: str, now: datetime, as_of: datetime | None = None, since: datetime | None = None) -> Window:
    """Return the window of a period, a key of PERIOD_DAYS, or the one from ``since`` if the period is CUSTOM.

    It ends at ``as_of``, or at ``now`` without it. With ``as_of`` the last day is the day of the microsecond before it:
    as of midnight, the last day is the one that has just ended.
    """
    last_moment = (as_of - timedelta(microseconds=1) if as_of else now).astimezone(UTC)
    days = PERIOD_DAYS.get(period)
    if days:
        midnight = last_moment.replace(hour=0, minute=0, second=0, microsecond=0)
        since = midnight - timedelta(days=days - 1)
    return Window(since, as_of or now, last_moment.date(), days)
