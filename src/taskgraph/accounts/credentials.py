"""Checking a password: throttled, in constant work, and the same wherever a password is asked for."""

from dataclasses import dataclass

from taskgraph.accounts.login_throttle import LoginThrottle
from taskgraph.accounts.passwords import PasswordHasher, Verdict

# Longer than any password can be; what is cut off could not have been right.
CHECKED_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Credentials:
    """The hasher behind the throttle."""

    hasher: PasswordHasher
    throttle: LoginThrottle

    async def check(self, email: str, stored_hash: str | None, password: str, *, address: str | None) -> Verdict:
        """Whether the password is right; a wrong one counts against the account and the address. TooManyFailedLogins, Busy."""
        async with self.throttle.attempt(email, address) as attempt:
            verdict = await self.hasher.verify(stored_hash, password[:CHECKED_CHARACTERS])
            attempt.has_failed = not verdict.is_right
        return verdict
