"""Every figure that bounds something. What enforces a bound imports it from here."""

from dataclasses import dataclass
from typing import Final

STATUS_MESSAGE_BYTES: Final = 1024
"""UTF-8 bytes of a status message; a longer one is cut.

gRPC percent-encodes a message (three bytes for one, at worst) and a peer refuses trailers of more than 8 KiB.
"""

STATUS_DETAILS_BYTES: Final = 2048
"""Bytes of all details of one status, before base64; beyond it they are left out and the server logs it."""

VIOLATIONS: Final = 16
"""Field violations that one refused call reports; the message says how many there were."""

VIOLATION_FIELD_CHARS: Final = 80
"""Characters of a violation's path: a key of a dictionary is the caller's, and can have any length."""

VIOLATION_TEXT_CHARS: Final = 120
"""Characters of a violation's description: expected values and a validator's own words can have any length."""

RENDERED_ERRORS: Final = 1000
"""Beyond so many errors in one call's arguments only their number is reported.

Pydantic renders all or none, and 800 KB of bad input made 200,000 errors (37 MB).
"""

SCALARS_STRUCK_OUT: Final = 1000
"""How many values of the input one refused call looks for in what validators say. Each takes about a microsecond; where
there are more, nothing of such words is told.
"""

STRUCK_OUT_CHARS: Final = 2048
"""Characters of what a validator says of an object or an array; nothing of longer words is told.

They repeat the input, and to look for 1,000 values in them took 0.8 s for 64 KB, and a minute for 4 MB.
"""

AHEAD_ITEMS: Final = 16
"""How many items a generator that never waits runs ahead of a writer that sends them one by one.

Waking a task for each item costs a tenth of the stream's speed.
"""

BATCH_ITEMS: Final = 256
"""How many items one message carries to a caller that accepts batches, and so how far a generator runs ahead of it.

Caps of 8, 32, 256 and 1,024 items gave 12, 33, 61 and 80 times the throughput of a message for each.
"""

AHEAD_RAMP: Final = 4
"""How fast a generator that never waits may run further ahead: 1 item, so that the first one leaves at once, then 4,
16, 64 and 256.
"""

AHEAD_BYTES: Final = 64 * 1024
"""Bytes of JSON that a generator is ahead of its writer before it waits, and that several items in one message have at
most: with more, an item that just fits into what a client takes would not fit once others travel with it.
"""

AHEAD_SECONDS: Final = 0.002
"""How long an item waits for those that follow it, and how long a client loops over items that came together until
others have a turn: longer than this, they would feel what never waits itself.
"""

HEARTBEAT_MILLISECONDS: Final = 100
"""The shortest silence that a caller can ask to have broken."""

EVENT_HEARTBEAT_SECONDS: Final = 15.0
"""The longest silence of Server-Sent Events, unless their reader asks for another: many proxies cut what is quiet for
30 or 60 s.
"""

PENDING_CALLS: Final = 20_000
"""Calls that have come and that the event loop has not yet begun to serve; those beyond are refused.

gRPC's own limit, 1,000, lost 1,800 of 5,000 streams that were opened at once, each with a bare CANCELLED.
"""

PING_SECONDS: Final = 30.0
"""How often a proxy asks the server whether it is still there; the server allows three times as many.

gRPC's own server takes it for an attack, and ended a quiet stream after 133 s.
"""


RECORD_CHARS: Final = 32 * 1024
"""Characters of one record in the log of ``serve``, and of its traceback; of longer ones the middle is left out.

An error's text can be all that its caller sent.
"""

LISTENING_AGAIN_SECONDS: Final = 5.0
"""How long a server that a caller has broken tries to get its port back. gRPC lets go of it within milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server allows.

    Attributes:
        request_bytes: the largest request message, in bytes; a larger one is RESOURCE_EXHAUSTED. gRPC's own
            default is the same 4 MiB.
        threads: how many synchronous functions and generators run at the same time; the next one waits for its turn,
            at most until its deadline. A stream from a synchronous generator holds one thread while it is open.
        cleanup: seconds that the server waits, after the grace, for cancelled functions to finish.
    """

    request_bytes: int = 4 * 1024 * 1024
    threads: int = 100
    cleanup: float = 2.0

    def __post_init__(self) -> None:
        for name in ("request_bytes", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"Limits.{name} must be at least 1, not {getattr(self, name)}")
        if self.cleanup < 0:
            raise ValueError(f"Limits.cleanup must not be negative, not {self.cleanup}")
