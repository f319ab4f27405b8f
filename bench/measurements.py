"""What is measured, of which servers and clients, and what is to be reached."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from bench import bare, ours
from bench.load import Work
from bench.worker import LOOPS, MEMORY_IS_KNOWN, Role, Usage, Worker, cores

_SECONDS: Final = 0.4
"""For one figure: with this the rounds that are asked for, 21, take about four minutes."""

_OPEN_STREAMS: Final = 1000


class Variant(NamedTuple):
    """A server and a client of its kind, both in event loops of a kind."""

    library: str
    loop: str
    functions: int = 3

    def __str__(self) -> str:
        return f"{self.library} on {self.loop}" + (f", {self.functions:,} functions" if self.functions > 3 else "")


BARE: Final = Variant("bare", "asyncio")
OURS: Final = Variant("ours", "asyncio")
OURS_UVLOOP: Final = Variant("ours", "uvloop")
OURS_MANY: Final = Variant("ours", "asyncio", 1000)


class Pair(NamedTuple):
    """The server and the client of a variant, in processes that wait to be told what to do."""

    variant: Variant
    stubs: str
    server: Worker
    client: Worker


@contextmanager
def started(variant: Variant, stubs: str) -> Iterator[Pair]:
    """A server and its client, until the ``with`` block ends; ``stubs`` is the folder of the reference's."""
    roles: tuple[Role, Role] = (bare.server, bare.client) if variant.library == "bare" else (ours.server, ours.client)
    argument = stubs if variant.library == "bare" else variant.functions
    server_core, client_core = cores()
    with (
        closing(Worker(server_core, variant.loop, roles[0], argument)) as server,
        closing(Worker(client_core, variant.loop, roles[1], argument, server.ask("address"))) as client,
    ):
        yield Pair(variant, stubs, server, client)


class Figure(NamedTuple):
    """What a measurement of a variant gave, and the microseconds of CPU for each call, item or stream."""

    value: float
    server_cpu: float | None = None
    client_cpu: float | None = None


class Comparison(NamedTuple):
    """A variant, what it is compared with, and the ratio to be reached."""

    variant: Variant
    reference: Variant = BARE
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One thing that is measured.

    Attributes:
        name: what ``--only`` calls it.
        title: what it is, and its unit.
        take: measures it once.
        comparisons: what is said about it.
        less_is_better: so of times and sizes.
    """

    name: str
    title: str
    take: Callable[[Pair], Figure]
    comparisons: tuple[Comparison, ...]
    less_is_better: bool = False

    @property
    def variants(self) -> list[Variant]:
        return list(dict.fromkeys(variant for c in self.comparisons for variant in (c.reference, c.variant)))


def measurements() -> list[Measurement]:
    """All that this platform lets us measure."""
    return [
        replace(each, comparisons=tuple(c for c in each.comparisons if c.variant.loop in LOOPS))
        for each in _MEASUREMENTS
        if MEMORY_IS_KNOWN or each.take is not _memory
    ]


def _load(command: str, *arguments: object) -> Callable[[Pair], Figure]:
    """Let the client work for a while, and see what CPU both sides needed."""

    def take(pair: Pair) -> Figure:
        workers = (pair.server, pair.client)
        before: list[Usage] = [worker.ask("usage") for worker in workers]
        work: Work = pair.client.ask(command, *arguments, _SECONDS)
        after: list[Usage] = [worker.ask("usage") for worker in workers]
        server_cpu, client_cpu = ((b.cpu - a.cpu) / work.done * 1e6 for a, b in zip(before, after, strict=True))
        return Figure(work.figure, server_cpu, client_cpu)

    return take


def _memory(pair: Pair) -> Figure:
    """Open streams on a server that is new: another would use memory that it has freed before."""
    with started(pair.variant, pair.stubs) as new:
        new.client.ask("unary", 1, 0.05)
        before: Usage = new.server.ask("usage")
        new.client.ask("hold", _OPEN_STREAMS)
        after: Usage = new.server.ask("usage")
    return Figure((after.memory - before.memory) / _OPEN_STREAMS / 1024)


def _against_bare(asyncio: float | None = None, uvloop: float | None = None) -> tuple[Comparison, ...]:
    return Comparison(OURS, goal=asyncio), Comparison(OURS_UVLOOP, goal=uvloop)


_MEASUREMENTS: Final = (
    Measurement("unary-1", "unary calls per second, 1 in flight", _load("unary", 1), _against_bare()),
    Measurement(
        "unary-64",
        "unary calls per second, 64 in flight",
        _load("unary", 64),
        (*_against_bare(asyncio=0.9, uvloop=1.0), Comparison(OURS_MANY, OURS, goal=0.95)),
    ),
    Measurement("stream-1", "items per second, 1 stream", _load("stream", 1, 10_000), _against_bare(0.95, 0.95)),
    Measurement("stream-50", "items per second, 50 streams", _load("stream", 50, 200), _against_bare()),
    Measurement("first-item", "milliseconds to the first item", _load("first_item", 10), _against_bare(), True),
    Measurement("memory", f"KiB per open stream, {_OPEN_STREAMS:,} open", _memory, _against_bare(), True),
)
