"""What browsers are told about every answer of this server: that it is data, to be shown in no frame and run by nobody.

Written into the bytes of the answer, once made: as headers of the application each would be checked and copied for each answer.
"""

from taskgraph.settings import Environment, Settings

# Nothing may be loaded by an answer that a browser takes for a page. A page of ours brings a policy of its own.
POLICY = b"content-security-policy: default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
ALWAYS = (
    b"x-content-type-options: nosniff\r\n"
    b"x-frame-options: DENY\r\n"
    b"referrer-policy: no-referrer\r\n"
    b"permissions-policy: camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()\r\n"
)
OWN_POLICY = b"\r\ncontent-security-policy: "
# How the head of an answer begins, and not that of `100 Continue`, and how it ends.
FINAL = tuple(f"HTTP/1.1 {kind}".encode() for kind in "2345")
END = b"\r\n\r\n"
# A year. Subdomains are not ours to decide about.
HTTPS_ONLY = b"strict-transport-security: max-age=31536000\r\n"


class SecurityHeaders:
    """The lines, ready to be put behind a head; https is insisted on in production alone, where it is certain to be there."""

    def __init__(self, settings: Settings) -> None:
        always = ALWAYS + HTTPS_ONLY if settings.environment is Environment.PRODUCTION else ALWAYS
        self._beside_a_policy = always + END[2:]
        self._usual = always + POLICY + END[2:]

    def added(self, head: bytes) -> bytes:
        """The head of an answer with the lines; anything else, such as a part of a body or `100 Continue`, as it is."""
        if not head.startswith(FINAL) or not head.endswith(END):
            return head
        return head[:-2] + (self._beside_a_policy if OWN_POLICY in head else self._usual)
