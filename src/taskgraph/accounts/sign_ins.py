"""How often anybody may try to sign in to one account, from wherever: more attempts are answered as data, like wrong passwords."""

from taskgraph.errors import ErrorCode, Problem, Refused
from taskgraph.server.rate_limit import RateLimited, RateLimits


class TooManySignIns(Refused):
    """The credentials were not even looked at."""

    def __init__(self, retry_after_seconds: int | None) -> None:
        message = "Too many attempts to sign in to this account; try again later."
        super().__init__(Problem(ErrorCode.RATE_LIMITED, message, retry_after_seconds=retry_after_seconds))


async def admit(limits: RateLimits, account: str) -> None:
    """Counts one attempt; `account` is whatever stands for it. TooManySignIns."""
    try:
        await limits.admit_sign_in(account)
    except RateLimited as error:
        raise TooManySignIns(error.retry_after_seconds) from error
