"""What is measured, of which servers and clients, and what is to be reached."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import Final, NamedTuple

from bench.load import Work
from bench.node import NODE_IS_THERE
from bench.peers import PEERS, python_of
from bench.web import PACKAGES
from bench.worker import LOOPS, MEMORY_IS_KNOWN, Worker, cores

_OPEN_STREAMS: Final = 1_000
_IDLE_STREAMS: Final = 5_000
_MANY_FUNCTIONS: Final = 1_000
_HTTP_PEERS: Final = ("connectrpc", "sonora", "fastapi")


class Variant(NamedTuple):
    """A server and a client, both in event loops of a kind.

    Attributes:
        client: one of ``_CLIENTS``; empty for that of the library.
    """

    library: str
    loop: str
    functions: int = 0
    idle: int = 0
    client: str = ""

    def __str__(self) -> str:
        text = self.library.replace("_", "-")
        text += f" by {self.client.replace('_', '-')}" if self.client else ""
        text += f" on {self.loop}"
        text += f", {self.functions:,} functions" if self.functions else ""
        return text + (f", {self.idle:,} idle" if self.idle else "")


BARE: Final = Variant("bare", "asyncio")
OURS: Final = Variant("ours", "asyncio")
OURS_UVLOOP: Final = Variant("ours", "uvloop")
OURS_MANY: Final = Variant("ours", "asyncio", functions=_MANY_FUNCTIONS)
OVER_HTTP: Final = Variant("over_http", "uvloop" if "uvloop" in LOOPS else "asyncio")
NODE: Final = OVER_HTTP._replace(library="node")
OURS_BUSY: Final = Variant("ours", "asyncio", idle=_IDLE_STREAMS)
ENVOY: Final = Variant("envoy", "asyncio")
RUNTIME: Final = Variant("runtime", "asyncio")
CONNECT_WEB: Final = Variant("connect_web", "asyncio")
GRPC_WEB: Final = Variant("grpc_web", "asyncio")

_ROLES: Final = {
    "envoy": ("bench.web:server", "bench.ours:client"),
    "runtime": ("bench.web:server", "bench.web:runtime"),
    "connect_web": ("bench.web:server", "bench.web:connect_web"),
    "grpc_web": ("bench.web:server", "bench.web:grpc_web"),
}
"""The servers and the clients of variants that are not in a module of their own."""

_CLIENTS: Final = {
    "httpx": "bench.http_clients:with_httpx",
    "sockets": "bench.http_clients:with_sockets",
    "connect_web": "bench.node:connect_web",
}
"""Clients that call servers of several libraries."""


class Pair(NamedTuple):
    """The server and the client of a variant, in processes that wait to be told what to do."""

    variant: Variant
    stubs: str
    server: Worker
    client: Worker


@contextmanager
def started(variant: Variant, stubs: str) -> Iterator[Pair]:
    """A server and its client, until the ``with`` block ends; ``stubs`` is the folder of those of ``bare.proto``."""
    peer = variant.library in PEERS
    module = f"bench.peers.{variant.library}" if peer else f"bench.{variant.library}"
    python = python_of(variant.library) if peer else sys.executable
    server_role, client_role = _ROLES.get(variant.library, (f"{module}:server", f"{module}:client"))
    argument: str | int = stubs if peer or variant.library == "bare" else variant.functions
    client_python, arguments = python, [argument]
    if variant.client:
        client_role = _CLIENTS[variant.client]
        client_python, arguments = sys.executable, [variant.library, stubs]
    server_core, client_core = cores()
    with (
        closing(Worker(python, server_core, variant.loop, server_role, argument)) as server,
        closing(
            Worker(client_python, client_core, variant.loop, client_role, *arguments, server.ask("address"))
        ) as client,
    ):
        if variant.idle:
            client.ask("hold", variant.idle)
        yield Pair(variant, stubs, server, client)


class Figure(NamedTuple):
    """What a measurement of a variant gave, and the microseconds of CPU for each call, item or stream."""

    value: float
    server_cpu: float | None = None
    client_cpu: float | None = None


class Comparison(NamedTuple):
    """A variant and what it is compared with.

    Attributes:
        goal: the ratio to be reached; more is better.
        most: what the figure itself must not exceed.
    """

    variant: Variant
    reference: Variant = BARE
    goal: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One thing that is measured.

    Attributes:
        command: the subcommand that it is a part of.
        title: what it is, and its unit.
        take: measures it once, in about so many seconds.
        comparisons: what is said about it.
        less_is_better: so of times and sizes.
        peers: whether other libraries can be asked to do the same.
    """

    command: str
    title: str
    take: Callable[[Pair, float], Figure]
    comparisons: tuple[Comparison, ...]
    less_is_better: bool = False
    peers: bool = False

    @property
    def variants(self) -> list[Variant]:
        return list(dict.fromkeys(variant for c in self.comparisons for variant in (c.reference, c.variant)))


def measurements(*, peers: bool) -> list[Measurement]:
    """All that this platform lets us measure.

    Args:
        peers: also what other libraries do, in place of all that they can't be asked to do.
    """
    known = [
        replace(
            each, comparisons=tuple(c for c in each.comparisons if c.variant.loop in LOOPS and _is_there(c.variant))
        )
        for each in _MEASUREMENTS
        if (MEMORY_IS_KNOWN or each.take is not _memory) and (PACKAGES.exists() or each.command != "web")
    ]
    return [replace(each, comparisons=_against_peers(each)) for each in known if each.peers] if peers else known


def _is_there(variant: Variant) -> bool:
    return variant.library != "node" or NODE_IS_THERE


def _load(command: str, *arguments: object) -> Callable[[Pair, float], Figure]:
    """Let the client work for a while, and see what CPU both sides needed."""

    def take(pair: Pair, seconds: float) -> Figure:
        workers = (pair.server, pair.client)
        before = [worker.ask("usage")[0] for worker in workers]
        work: Work = pair.client.ask(command, *arguments, seconds)
        after = [worker.ask("usage")[0] for worker in workers]
        done, figure = work
        server_cpu, client_cpu = ((b - a) / done * 1e6 for a, b in zip(before, after, strict=True))
        return Figure(figure, server_cpu, client_cpu)

    return take


def _memory(pair: Pair, seconds: float) -> Figure:
    """Open streams on a server that is new: another would use memory that it has freed before."""
    with started(pair.variant, pair.stubs) as new:
        new.client.ask("unary", 1, min(seconds, 0.05))
        before: int = new.server.ask("usage")[1]
        new.client.ask("hold", _OPEN_STREAMS)
        after: int = new.server.ask("usage")[1]
    return Figure((after - before) / _OPEN_STREAMS / 1024)


def _size(pair: Pair, seconds: float) -> Figure:  # noqa: ARG001  every measurement is called so
    """What a page has to load of a library."""
    return Figure(pair.client.ask("size"))


def _against_bare(
    asyncio: float | None = None, uvloop: float | None = None, most: float | None = None
) -> tuple[Comparison, ...]:
    return Comparison(OURS, goal=asyncio, most=most), Comparison(OURS_UVLOOP, goal=uvloop, most=most)


def _against_grpc() -> tuple[Comparison, ...]:
    ours = OURS._replace(loop=OVER_HTTP.loop)
    return Comparison(OVER_HTTP, ours), Comparison(NODE, ours)


def _against_peers(measurement: Measurement) -> tuple[Comparison, ...]:
    if measurement.command == "http":
        return tuple(_over_http("items" in measurement.title))
    goal = 1.0 if measurement.command == "stream" else None
    ours = OURS_UVLOOP if "uvloop" in LOOPS else OURS
    peers = (BARE, *(Variant(peer, ours.loop) for peer in PEERS))
    return tuple(Comparison(ours, reference=peer, goal=goal) for peer in peers)


def _over_http(streams: bool) -> Iterator[Comparison]:
    """Each peer's server beside this edge: by one client, by the usual one in Node, by its own."""
    goal = 5.0 if streams else 1.0
    connectrpc, sonora, fastapi = (Variant(peer, OVER_HTTP.loop) for peer in _HTTP_PEERS)
    if not streams:
        for edge, peer in product((OVER_HTTP, NODE), (connectrpc, sonora, fastapi)):
            yield Comparison(edge._replace(client="sockets"), peer._replace(client="sockets"), goal)
        yield Comparison(OVER_HTTP, connectrpc._replace(client="httpx"), goal)
    yield Comparison(OVER_HTTP, fastapi, goal)
    if NODE_IS_THERE:  # sonora's unary answers are none to connect-web
        yield Comparison(NODE, connectrpc._replace(client="connect_web"), goal)
    for edge, peer in product(filter(_is_there, (OVER_HTTP, NODE)), (connectrpc, sonora)):
        yield Comparison(edge, peer, goal if streams else None)


_MEASUREMENTS: Final = (
    Measurement(
        "unary", "unary calls per second, 1 in flight", _load("unary", 1), _against_bare(0.9, 1.05), peers=True
    ),
    Measurement(
        "unary", "unary calls per second, 64 in flight", _load("unary", 64), _against_bare(0.9, 1.05), peers=True
    ),
    Measurement(
        "stream",
        "items per second, 1 stream",
        _load("stream", "tokens", 1, 10_000),
        _against_bare(25, 25),
        peers=True,
    ),
    Measurement(
        "stream",
        "items per second, 1 stream that sleeps for 0 s between them",
        _load("stream", "breathing", 1, 5_000),
        _against_bare(3.5, 3.5),
    ),
    Measurement("stream", "items per second, 50 streams", _load("stream", "tokens", 50, 1_000), _against_bare(10, 10)),
    Measurement(
        "sync-stream",
        "items per second, 1 stream of a synchronous generator",
        _load("stream", "tokens_sync", 1, 10_000),
        _against_bare(20, 20),
    ),
    Measurement(
        "first-item",
        "milliseconds to the first item",
        _load("first_item", 10),
        _against_bare(1 / 1.1, 1 / 1.1),
        less_is_better=True,
    ),
    Measurement(
        "first-item",
        "milliseconds of delay, items 1 ms apart",
        _load("delay"),
        _against_bare(1 / 1.1, 1 / 1.1),
        less_is_better=True,
    ),
    Measurement(
        "cancel",
        "milliseconds from cancel to clean-up",
        _load("cancel"),
        _against_bare(most=2),
        less_is_better=True,
    ),
    Measurement(
        "http", "unary calls per second over HTTP, 1 in flight", _load("unary", 1), _against_grpc(), peers=True
    ),
    Measurement(
        "http", "unary calls per second over HTTP, 64 in flight", _load("unary", 64), _against_grpc(), peers=True
    ),
    Measurement(
        "http",
        "items per second over HTTP, 1 stream",
        _load("stream", "tokens", 1, 10_000),
        _against_grpc(),
        peers=True,
    ),
    Measurement(
        "open-streams",
        f"unary calls per second, 64 in flight, beside {_IDLE_STREAMS:,} idle streams",
        _load("unary", 64),
        (Comparison(OURS_BUSY, OURS, goal=0.8),),
    ),
    Measurement(
        "functions",
        f"unary calls per second, 64 in flight, of {_MANY_FUNCTIONS:,} functions",
        _load("unary", 64),
        (Comparison(OURS_MANY, OURS, goal=0.95),),
    ),
    Measurement(
        "memory",
        f"KiB per open stream, {_OPEN_STREAMS:,} open",
        _memory,
        _against_bare(most=28),
        less_is_better=True,
    ),
    Measurement("web", "unary calls per second, 1 in flight", _load("unary", 1), (Comparison(ENVOY, OURS),)),
    Measurement("web", "items per second, 1 stream", _load("stream", "tokens", 1, 10_000), (Comparison(ENVOY, OURS),)),
    Measurement(
        "web",
        "items per second in Node, through Envoy",
        _load("stream", "tokens", 1, 10_000),
        (Comparison(RUNTIME, CONNECT_WEB, goal=1),),
    ),
    Measurement(
        "web",
        "items per second in Node, through Envoy, 1 stream that sleeps for 0 s between them",
        _load("stream", "breathing", 1, 5_000),
        (Comparison(RUNTIME, CONNECT_WEB, goal=1),),
    ),
    Measurement(
        "web",
        "milliseconds to the first item in Node, through Envoy",
        _load("first_item", 10),
        (Comparison(RUNTIME, CONNECT_WEB, goal=1),),
        less_is_better=True,
    ),
    Measurement(
        "web",
        "KiB of a client, minified and gzipped",
        _size,
        (Comparison(RUNTIME, CONNECT_WEB, goal=10, most=3), Comparison(RUNTIME, GRPC_WEB)),
        less_is_better=True,
    ),
)
