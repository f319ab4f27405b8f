"""What goes wrong in a function, ten thousand times: nothing of it reaches its caller, and the log can be read."""

import asyncio
import base64
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from pydantic import BaseModel, ValidationError

from ephaptic_grpc import CallError, Server, Service, ServiceError
from ephaptic_grpc.asgi import web_app
from ephaptic_grpc.grpc_web import frame
from ephaptic_grpc.payload import pack
from ephaptic_grpc.records import RecordFormatter

CANARY = "canary7f3a"
EACH = 1_250
"""How many errors of each kind of function, over each edge."""

KINDS = ["coroutine", "function", "async_generator", "generator"]
FORGED = "2026-01-01 00:00:00,000 INFO ephaptic_grpc: all is well"

raising: dict[int, Callable[[], BaseException]] = {}
leaks = Service("leaks.v1.LeaksService")


@leaks.expose
async def coroutine(number: int) -> int:
    raise raising[number]()


@leaks.expose
def function(number: int) -> int:
    raise raising[number]()


@leaks.expose
async def async_generator(number: int) -> AsyncIterator[int]:
    try:
        for item in range(number % 3):
            yield item
        raise raising[number]()
    finally:
        if number % 5 == 0:
            raise raising[number]()


@leaks.expose
def generator(number: int) -> Iterator[int]:
    try:
        yield from range(number % 3)
        raise raising[number]()
    finally:
        if number % 5 == 0:
            raise raising[number]()


class SaysNothingError(Exception):
    """One whose own code fails wherever it is looked at."""

    def __str__(self) -> str:
        raise RuntimeError(CANARY)

    __repr__ = __str__

    @property
    def __notes__(self) -> list[str]:
        raise KeyError(CANARY)


class LooksLikeOneError(Exception):
    """One with the attributes of a ServiceError, which nobody asks for."""

    code = grpc.StatusCode.NOT_FOUND
    message = details = CANARY


class HalfMadeError(ServiceError):
    """One that was never initialised."""

    def __init__(self) -> None:
        self.secret = CANARY


class LyingError(ServiceError):
    """One that fails when it is read."""

    def __init__(self) -> None:
        super().__init__(grpc.StatusCode.NOT_FOUND, CANARY)

    @property
    def message(self) -> str:  # type: ignore[override]
        raise SystemExit(CANARY)

    @message.setter
    def message(self, value: str) -> None: ...


class Strict(BaseModel):
    number: int


def of_pydantic(text: str) -> BaseException:
    try:
        return RuntimeError(Strict.model_validate({"number": text}))
    except ValidationError as error:
        return error


TEXTS = [
    *(CANARY, f"{CANARY}\n{FORGED}", f"\r\n{FORGED}\r{CANARY}", f"\x1b[2K\x1b[1A{CANARY}", f"\u2028{FORGED} {CANARY}"),
    *(f"\ud800{CANARY}\udfff", f"Zoë {CANARY} 𝒜", f"%s %d {{}} {CANARY}", f"\x00{CANARY}\x85", "", CANARY * 50),
]
PLAIN: list[Callable[[str], BaseException]] = [
    *(ValueError, KeyError, RuntimeError, AssertionError, LookupError, ArithmeticError, StopIteration, TimeoutError),
    *(StopAsyncIteration, GeneratorExit, SystemExit, KeyboardInterrupt, MemoryError, RecursionError, Warning, EOFError),
    lambda text: OSError(2, text, f"/{CANARY}"),
    lambda text: UnicodeDecodeError("utf-8", text.encode("utf-8", "replace") or b"x", 0, 1, text),
    lambda text: CallError(grpc.StatusCode.PERMISSION_DENIED, text, [{"it": CANARY}]),
    lambda text: ImportError(text, name=CANARY, path=CANARY),
    lambda _: SaysNothingError(),
    lambda _: LooksLikeOneError(),
    lambda _: HalfMadeError(),
    lambda _: LyingError(),
    lambda _: grpc.RpcError(CANARY),
    lambda _: type(f"{CANARY}Error", (Exception,), {})(),
    of_pydantic,
]


def unmeant(chance: random.Random, depth: int = 0) -> BaseException:
    """An error that no author meant for a caller."""
    error = chance.choice(PLAIN)(chance.choice(TEXTS))
    with suppress(Exception):
        error.args = (*error.args, chance.choice(TEXTS), {"it": CANARY})[: chance.randrange(1, 4)]
    for _ in range(chance.randrange(2)):
        with suppress(Exception):
            error.add_note(chance.choice(TEXTS))
    if depth < 3:
        match chance.randrange(6):
            case 0:
                error.__cause__ = unmeant(chance, depth + 1)
            case 1:
                error.__context__ = unmeant(chance, depth + 1)
            case 2:
                several = [unmeant(chance, depth + 1) for _ in range(chance.randrange(1, 4))]
                error = BaseExceptionGroup(chance.choice(TEXTS), [error, *several])
    return error


def meant(chance: random.Random) -> BaseException:
    """One that its author did mean, in the midst of what nobody did."""
    error = ServiceError(grpc.StatusCode.NOT_FOUND, "no such thing", [{"id": 7}])
    error.__cause__ = unmeant(chance)
    error.add_note(CANARY)
    return ExceptionGroup(CANARY, [error]) if chance.random() < 0.5 else error


def nested(chance: random.Random) -> BaseException:
    """Groups in groups: more than Python can show."""
    error: Exception = ValueError(CANARY)
    for _ in range(2_000):
        error = ExceptionGroup(CANARY, [error, ValueError(CANARY)])
    return error


def errors(chance: random.Random) -> Iterator[Callable[[], BaseException]]:
    for number in range(EACH):
        seed = chance.random()
        make = nested if number % 500 == 499 else meant if number % 20 == 19 else unmeant
        yield lambda seed=seed, make=make: make(random.Random(seed))
    raise AssertionError


def prepare(kind: str) -> list[int]:
    chance = random.Random(kind)
    numbers = [*range(EACH)]
    raising.update(zip(numbers, errors(chance), strict=False))
    return numbers


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What ``serve`` would write of each tenth record; and of no record has the message more than one line."""
    logger, written = logging.getLogger("ephaptic_grpc"), []

    class Reads(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            message = record.getMessage()
            assert message.isprintable(), message
            assert CANARY not in message
            if len(written) % 10 == 0:
                text = formatter.format(record)
                assert all(line.startswith("    | ") for line in text.splitlines()[1:])
            written.append(message)
            return True

    formatter, reads = RecordFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"), Reads()
    logger.addHandler(reads)
    logger.propagate = False  # pytest would keep it all
    yield written
    logger.propagate = True
    logger.removeHandler(reads)


def check(code: int, everything: object, number: int) -> None:
    assert CANARY not in str(everything), number
    assert FORGED not in str(everything), number
    meant_codes = (grpc.StatusCode.NOT_FOUND.value[0],) if number % 20 == 19 and number % 500 != 499 else ()
    assert code in (grpc.StatusCode.INTERNAL.value[0], *meant_codes), number


@pytest.mark.once
@pytest.mark.parametrize("kind", KINDS)
def test_over_grpc(kind, log):
    numbers = prepare(kind)
    path = f"/{leaks.name}/{''.join(part.title() for part in kind.split('_'))}"

    async def call(channel: grpc.aio.Channel, number: int) -> None:
        request = pack(b"[%d]" % number)
        method: Any = channel.unary_stream(path) if "generator" in kind else channel.unary_unary(path)
        call = method(request)
        with pytest.raises(grpc.RpcError) as caught:
            if "generator" in kind:
                async for _ in call:
                    pass
            else:
                await call
        error = caught.value
        told = [error.details(), tuple(error.trailing_metadata()), tuple(await call.initial_metadata())]
        told += [value.decode("latin-1") for _, value in error.trailing_metadata() if isinstance(value, bytes)]
        check(error.code().value[0], told, number)

    async def main() -> None:
        async with Server(leaks, port=0) as server, grpc.aio.insecure_channel(server.address) as channel:
            for start in range(0, EACH, 50):
                await asyncio.gather(*(call(channel, number) for number in numbers[start : start + 50]))

    asyncio.run(main())
    assert len(log) >= 0.9 * EACH


@pytest.mark.once
@pytest.mark.parametrize("kind", KINDS)
def test_over_http(kind, log):
    numbers = prepare(kind)
    path = f"/{leaks.name}/{''.join(part.title() for part in kind.split('_'))}"
    faces = [b"application/json", b"application/grpc-web", b"application/grpc-web-text", b"text/event-stream"]

    async def call(app: Any, number: int) -> None:
        face = faces[number % 4]
        body = b"[%d]" % number
        kept = [(b"content-type", face)]
        if b"grpc" in face:
            body = frame(pack(body))
            body = base64.b64encode(body) if b"text" in face else body
        if face == b"text/event-stream":
            kept = [(b"content-type", b"application/json"), (b"accept", face)]
        scope = {"type": "http", "method": "POST", "path": path, "headers": kept, "scheme": "http", "root_path": ""}
        sent: list[Any] = []
        asked = iter([{"type": "http.request", "body": body}])

        async def receive() -> Any:
            for message in asked:
                return message
            return await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        raw = b"".join(message.get("body", b"") for message in sent)
        text = (
            b"".join(base64.b64decode(piece + b"====") for piece in raw.split(b"=")) if face.endswith(b"text") else b""
        )
        everything = f"{sent} {raw.decode('latin-1')} {text.decode('latin-1')}"
        assert CANARY not in everything, number
        assert FORGED not in everything, number
        assert "internal error" in everything or (number % 20 == 19 and "no such thing" in everything), everything

    async def main() -> None:
        app = web_app(leaks)
        for start in range(0, EACH, 50):
            await asyncio.gather(*(call(app, number) for number in numbers[start : start + 50]))
        await app.stop()

    asyncio.run(main())
    assert len(log) >= 0.9 * EACH
