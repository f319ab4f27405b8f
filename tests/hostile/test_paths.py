"""Ten thousand paths that nobody exposed, to real servers: nothing runs, nothing is logged, each is UNIMPLEMENTED."""

import asyncio
import json
import random
import re
import socket
from collections import Counter
from collections.abc import Iterator
from io import BufferedReader
from urllib.parse import quote, unquote

import grpc
import pytest
from http_server import serving_http
from raw_http2 import RawHttp2, message
from waiting import eventually, eventually_sync

from ephaptic_grpc import CallError, Server, Service, SyncClient, connect_sync
from ephaptic_grpc.asgi import web_app
from ephaptic_grpc.payload import pack, unpack

COUNT = 10_000
EXPOSED = "/paths.v1.PathsService/AddUp"

ran: list[str] = []
paths = Service("paths.v1.PathsService")
other = Service("other.v1.OtherService")


@paths.expose
async def add_up(a: int = 0, b: int = 0) -> int:
    ran.append("add_up")
    return a + b


@other.expose
async def secret() -> str:
    ran.append("secret")
    return "a secret"


@paths.expose
async def wait_for(what: str) -> str:
    ran.append(what)
    await eventually(lambda: what not in ran)
    return what


SERVICES = ["paths.v1.PathsService", "other.v1.OtherService", "grpc.reflection.v1.ServerReflection", "paths", "", "."]
FUNCTIONS = ["AddUp", "add_up", "Secret", "WaitFor", "__class__", "__init__", "__globals__", "_procedures", "expose"]
PIECES = [
    *(
        "/",
        "//",
        ".",
        "..",
        "/./",
        "/../",
        ":",
        ";",
        "?",
        "#",
        "%",
        "%2F",
        "%2e",
        "%00",
        "%41",
        "\\",
        " ",
        "+",
        "*",
        "~",
    ),
    *(
        "__class__",
        "__mro__",
        "__subclasses__",
        "{0}",
        "${x}",
        "\u0430",
        "\u212a",
        "\u017f",
        "\ufeff",
        "\u2028",
        "Ä",
        "𝒜",
    ),
    *("+", "*", "~", "\u2028", "\n", "\r", "\t", "\x00", "\x1b[2K", "'", '"', "<", "x" * 300),
]


def unexposed() -> Iterator[str]:
    """Paths that are like one that is exposed, and aren't."""
    chance = random.Random(8)
    seen = {EXPOSED, "/paths.v1.PathsService/WaitFor", "/other.v1.OtherService/Secret"}
    while len(seen) < COUNT + 3:
        path = f"/{chance.choice(SERVICES)}/{chance.choice(FUNCTIONS)}"
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(path) + 1)
            match chance.randrange(6):
                case 0:
                    path = path[:at] + chance.choice(PIECES) + path[at:]
                case 1:
                    path = path[:at] + path[at : at + 1].swapcase() + path[at + 1 :]
                case 2:
                    path = path[:at] + path[at + 1 :]
                case 3:
                    path = path[:at] + "".join(f"%{byte:02X}" for byte in path[at : at + 1].encode()) + path[at + 1 :]
                case 4:
                    path += chance.choice(PIECES)
                case 5:
                    path = chance.choice(PIECES) + path
        if path not in seen:
            seen.add(path)
            yield path


@pytest.fixture(autouse=True)
def nothing_ran(caplog) -> Iterator[None]:
    """Nothing but what a test itself has asked for."""
    ran.clear()
    yield
    assert ran == []
    assert [record for record in caplog.records if record.name.startswith(("ephaptic_grpc", "grpc"))] == []


@pytest.mark.once
def test_over_grpc(serve, capfd):
    served = serve(paths, other)

    async def call_all() -> set[str]:
        async with grpc.aio.insecure_channel(served.address) as channel:

            async def call(path: str) -> str:
                method = channel.unary_unary(path) if len(path) % 2 else channel.unary_stream(path)
                try:
                    await (method(b"") if len(path) % 2 else method(b"").read())
                except grpc.RpcError as error:
                    assert EXPOSED not in error.details()
                    return error.code().name
                return f"OK: {path!r}"

            found: set[str] = set()
            them = [*unexposed()]
            for start in range(0, len(them), 500):
                found |= {*await asyncio.gather(*map(call, them[start : start + 500]))}
            return found

    assert asyncio.run(call_all()) == {"UNIMPLEMENTED"}
    assert capfd.readouterr().err == ""
    assert served.client.add_up(1, 2) == 3
    assert [ran.pop()] == ["add_up"]


@pytest.mark.once
def test_over_http():
    exposed = {f"/{service.name}/{name}" for service in (paths, other) for name in ("AddUp", "WaitFor", "Secret")}
    asked = [quote(path if path.startswith("/") else f"/{path}", safe="%/;?:@&=+$,~*'#") for path in unexposed()]
    asked = [path for path in asked if re.split("[?#]", path)[0] not in exposed]  # a query is no part of a path
    with serving_http(web_app(paths, other)) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        ask = "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]"
        answered = Counter()
        for start in range(0, len(asked), 100):
            some = asked[start : start + 100]
            with (
                socket.create_connection((host, int(port)), timeout=20) as connection,
                connection.makefile("rb") as answers,
            ):
                connection.sendall("".join(ask.format(path, host) for path in some).encode())
                for path in some:
                    status, said = read_answer(answers)
                    assert status == 404, path
                    for named in re.findall(r"name of its RPC, as (.*)\)$", json.loads(said)["message"]):
                        # to those only who know its name, and write it in another way
                        assert named.lower() == unquote(re.split("[?#]", path)[0]).replace("_", "").lower()
                    answered[status] += 1
    assert answered[404] > 0.98 * COUNT


def read_answer(answers: BufferedReader) -> tuple[int, bytes]:
    status = int(answers.readline().split()[1])
    size = 0
    while (line := answers.readline().lower()) not in (b"\r\n", b""):
        if line.startswith(b"content-length:"):
            size = int(line.partition(b":")[2])
    return status, answers.read(size)


@pytest.mark.parametrize(
    "path", [b"/\xff", EXPOSED.encode() + b"\xc3", b"/paths.v1.PathsService/\xed\xa0\x80", b"\xfe"]
)
def test_a_path_that_is_no_text_stops_nobody(serve, path, caplog):
    """In some releases it ends the task of grpc.aio that accepts calls."""
    served = serve(paths)
    pending = served.channel.unary_unary("/paths.v1.PathsService/WaitFor").future(pack(b'["flight"]'))
    eventually_sync(lambda: ran == ["flight"])
    for _ in range(3):
        with RawHttp2(served.address) as raw:
            assert raw.call(path, message(b"")).get(b"grpc-status") != b"0"
        eventually_sync(lambda: calls_well(served.client))
    ran.clear()  # and what was in flight ends well
    assert unpack(pending.result(timeout=20)) == b'"flight"'
    caplog.clear()


def test_servers_that_start_at_the_same_time_break_one_by_one(caplog):
    async def both() -> None:
        servers = [Server(paths, port=0), Server(paths, port=0)]
        await asyncio.gather(*(server.start() for server in servers))
        for server in servers:
            caplog.clear()
            await asyncio.to_thread(break_and_call, server.address)
            assert caplog.text.count("listening again") <= 1
        await asyncio.gather(*(server.stop() for server in servers))

    def break_and_call(address: str) -> None:
        with RawHttp2(address) as raw, connect_sync(address, paths) as client:
            assert raw.call(b"/\xff", message(b"")).get(b"grpc-status") != b"0"
            eventually_sync(lambda: calls_well(client))

    asyncio.run(both())
    ran.clear()
    caplog.clear()


def calls_well(client: SyncClient) -> bool:
    try:
        return client.with_options(timeout=5).add_up(1, 2) == 3
    except CallError:
        return False
