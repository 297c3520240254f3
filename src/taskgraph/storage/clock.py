"""Time as MongoDB stores it: UTC without a zone, in whole milliseconds."""

from datetime import UTC, datetime


def now() -> datetime:
    """The current time; the one place that reads the clock for anything stored, so tests can replace it."""
    moment = datetime.now(UTC).replace(tzinfo=None)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
