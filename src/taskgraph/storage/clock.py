"""Time as MongoDB stores it: UTC without a zone, in whole milliseconds."""

import time
from datetime import datetime, timedelta

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - stored times are UTC without a zone


def now() -> datetime:
    """The current time; the one place that reads the clock for anything stored, so tests can replace it."""
    return EPOCH + timedelta(milliseconds=time.time_ns() // 1_000_000)
