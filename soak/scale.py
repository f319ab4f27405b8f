"""How much a soak does."""

from collections.abc import Callable
from dataclasses import dataclass

Say = Callable[[str], None]
"""Tells a person how far it is."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything; the defaults are those of a soak in full.

    Attributes:
        kills: SIGKILLs of the server.
        vanished: clients that are killed.
        drains: servers that are told to stop.
        deadlines: rounds of calls with a deadline.
        streams: open at the same time.
        connections: that they share.
        burst: calls at once.
        bound: of calls in flight, which a burst of ten times as many goes over.
        seconds: of mixed load, after a fifth as many to warm up.
        slow: seconds that a slow reader doesn't read.
    """

    kills: int = 200
    vanished: int = 20
    drains: int = 5
    deadlines: int = 50
    streams: int = 10_000
    connections: int = 100
    burst: int = 5_000
    bound: int = 200
    seconds: float = 600.0
    slow: float = 60.0


SHORT = Scale(kills=20, vanished=3, deadlines=5, streams=1_000, connections=10, bound=50, seconds=60.0, slow=5.0)
