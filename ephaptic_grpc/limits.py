"""Every figure that bounds what others do. What enforces a bound imports it from here.

How long a module waits for what it has begun itself is its own business, and stands there.
"""

from dataclasses import dataclass, fields, replace
from typing import Final, Self

STATUS_MESSAGE_BYTES: Final = 1024
"""UTF-8 bytes of a status message; a longer one is cut.

gRPC percent-encodes a message (three bytes for one, at worst) and a peer refuses trailers of more than 8 KiB.
"""

STATUS_DETAILS_BYTES: Final = 2048
"""Bytes of all details of one status, before base64; beyond it they are left out and the server logs it."""

VIOLATIONS: Final = 16
"""Field violations that one refused call reports; the message says how many there were."""

VIOLATION_FIELD_BYTES: Final = 80
"""UTF-8 bytes of a violation's path: a key of a dictionary is the caller's, and can have any length."""

VIOLATION_TEXT_BYTES: Final = 160
"""UTF-8 bytes of a violation's description: expected values and a validator's own words can have any length.

With these, all that a refused call is told takes at most 4 KiB of trailers, of the 8 KiB that a peer accepts.
"""

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

STANDARD_STREAMS: Final = 1000
"""Streams of the standard services, health and reflection, that are open at the same time, of each.

They are no calls of functions and take none of their room; each takes about 25 KiB, and nothing ends it.
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

STREAMS_PER_CONNECTION: Final = 6_000
"""Calls that one connection has open; its client keeps those beyond until others have ended.

It is what bounds a client that opens and resets calls as fast as it can ("rapid reset"): 20,000 of them held others up
for 1.7 s and took 200 MB without it, 0.3 s and 60 MB with it. 1,000 would be 0.01 s and 12 MB, and too few for a client
with 5,000 open streams.
"""

PING_SECONDS: Final = 30.0
"""How often a proxy asks the server whether it is still there; the server allows more.

gRPC's own server takes it for an attack, and ended a quiet stream after 133 s.
"""

KEEPALIVE_SECONDS: Final = 15.0
"""After so much silence of a connection, a server asks its peer whether it is still there, and a client does while a
call is in flight. gRPC's own servers ask after two hours, its clients never: what a broken network leaves stayed open.
"""

KEEPALIVE_TIMEOUT_SECONDS: Final = 10.0
"""How long the answer may take before the connection is given up: 25 s after the last sign of life, so within 30."""

RECONNECT_SECONDS: Final = (0.25, 2.0)
"""How long a client waits after it could not connect, at first and at most. While it waits, its calls fail. With gRPC's
own 1 s and 2 min, a client of a server that was away for some minutes went on failing for two more.
"""

RETRY_ATTEMPTS: Final = 5
"""How often a call of an idempotent function is made at most, while no server answers; gRPC allows no more."""

RETRY_SECONDS: Final = (0.25, 2.0)
"""How long a client waits before it makes such a call again, at first and at most; each time twice as long, and gRPC
varies it by a fifth. The five attempts last 3.75 s: a server that was killed is back by then.
"""

RECORD_CHARS: Final = 32 * 1024
"""Characters of one record in the log of ``serve``, and of its traceback; of longer ones the middle is left out.

An error's text can be all that its caller sent.
"""

JSON_BYTES: Final = 4 * 1024 * 1024
"""The JSON of a request, a value or an item, at most, unless a server, a function or a client says otherwise.

It is gRPC's own default for a message, and what clients in other languages take. To read as much holds the event loop
for 125 ms.
"""

JSON_DEPTH: Final = 201
"""Arrays and objects in each other, at most: the bound of Pydantic's parser, which is part of what is promised."""

JSON_DIGITS: Final = 4300
"""Digits of an integer, at most: the same. Python itself has this bound, since longer ones take quadratic time."""

ENVELOPE_BYTES: Final = 64
"""What a message may have besides its JSON: the field's tag and size are 6 bytes, a content type is 18."""

LARGEST_JSON_BYTES: Final = 2**31 - 1 - ENVELOPE_BYTES
"""The largest limit of JSON: gRPC counts the bytes of a message in 31 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionLimits:
    """What one function allows; None is what its server's ``Limits`` say.

    Attributes:
        request_bytes, reply_bytes, first_item_timeout, idle_timeout: as of ``Limits``.
    """

    request_bytes: int | None = None
    reply_bytes: int | None = None
    first_item_timeout: float | None = None
    idle_timeout: float | None = None

    def __post_init__(self) -> None:
        for name in ("request_bytes", "reply_bytes"):
            if getattr(self, name) is not None:
                check_bytes(name, getattr(self, name))
        for name in ("first_item_timeout", "idle_timeout"):
            _check_seconds(name, getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server allows.

    What has no bound by default is time: a stream can be open for days, and only its author knows what is too long.

    Attributes:
        request_bytes: bytes of JSON that the arguments of a call have at most; with more it is RESOURCE_EXHAUSTED.
        reply_bytes: the same for a value, or one item of a stream. It is logged, too.
        calls: how many calls are served at the same time, open streams included; one more is RESOURCE_EXHAUSTED at
            once. An open stream takes about 26 KiB, so that the default has room in 1 GiB.
        threads: how many synchronous functions and generators run at the same time; the next one waits for its turn,
            at most until its deadline. A stream from a synchronous generator holds one thread while it is open.
        default_timeout: seconds that a call has whose caller sets no deadline; then it is DEADLINE_EXCEEDED.
        max_timeout: seconds that a call has at most, whatever its caller or ``default_timeout`` say.
        first_item_timeout: seconds from the start of a stream to its first item; then it is DEADLINE_EXCEEDED.
        idle_timeout: seconds that a generator takes for one more item, or to end. A slow reader uses none of them.
        cleanup: seconds that the server waits, after the grace, for cancelled functions to finish and their callers to
            be told; anew whenever one of them has. With the default, a server that is told to stop has ended within the
            grace and a second, unless thousands of calls are to be told.
    """

    request_bytes: int = JSON_BYTES
    reply_bytes: int = JSON_BYTES
    calls: int = 20_000
    threads: int = 100
    default_timeout: float | None = None
    max_timeout: float | None = None
    first_item_timeout: float | None = None
    idle_timeout: float | None = None
    cleanup: float = 0.5

    def __post_init__(self) -> None:
        for name in ("request_bytes", "reply_bytes"):
            check_bytes(name, getattr(self, name))
        for name in ("calls", "threads"):
            _check_whole(name, getattr(self, name))
        for name in ("default_timeout", "max_timeout", "first_item_timeout", "idle_timeout"):
            _check_seconds(name, getattr(self, name))
        if not isinstance(self.cleanup, int | float) or not self.cleanup >= 0:
            raise ValueError(f"cleanup must be a number of seconds, 0 or more, not {self.cleanup!r}")

    def of(self, function: FunctionLimits) -> Self:
        """What the server allows a function."""
        own = {field.name: getattr(function, field.name) for field in fields(function)}
        return replace(self, **{name: value for name, value in own.items() if value is not None})

    @property
    def bounds_time(self) -> bool:
        """Whether calls can have a deadline that their callers didn't set."""
        return self.default_timeout is not None or self.max_timeout is not None

    def deadline(self, remaining: float | None) -> float | None:
        """Seconds to the deadline that the server sets a call; None where that of its caller, if any, comes first."""
        if remaining is not None:
            return self.max_timeout if self.max_timeout is not None and self.max_timeout < remaining else None
        given = [seconds for seconds in (self.default_timeout, self.max_timeout) if seconds is not None]
        return min(given, default=None)


def check_limits(limits: object) -> None:
    """Raise TypeError where these are none."""
    if not isinstance(limits, Limits):
        raise TypeError(f"limits is a Limits, such as Limits(calls=500), not {limits!r}")


def check_bytes(name: str, value: object) -> None:
    """Raise ValueError where something that is given is no number of bytes of JSON."""
    if _check_whole(name, value) > LARGEST_JSON_BYTES:
        raise ValueError(f"{name} must be {LARGEST_JSON_BYTES} at most, not {value}")


def _check_whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number, at least 1, not {value!r}")
    return value


def _check_seconds(name: str, value: object) -> None:
    if value is not None and (isinstance(value, bool) or not (isinstance(value, int | float) and value > 0)):
        raise ValueError(f"{name} must be a number of seconds above 0, or None, not {value!r}")
