"""The app on other ASGI servers: a value, a stream, an error, and a client that leaves. And the app inside another."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from waiting import eventually_sync
from web_trailers import read_trailers

from ephaptic_grpc.grpc_web import Frames, frame
from ephaptic_grpc.payload import pack, unpack

APP = """
import asyncio
import pathlib
from collections.abc import AsyncIterator

import grpc
from fastapi import FastAPI
from starlette.middleware.base import BaseHTTPMiddleware
from ephaptic_grpc import Service, ServiceError
from ephaptic_grpc.asgi import web_app

some = Service("some.v1.SomeService")

@some.expose
async def add(a: int, b: int) -> int:
    return a + b

@some.expose
async def missing() -> None:
    raise ServiceError(grpc.StatusCode.NOT_FOUND, "nothing here")

@some.expose
async def never() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        pathlib.Path("ended").touch()

@some.expose
async def forever() -> AsyncIterator[int]:
    try:
        for number in range(1_000_000):
            yield number
            await asyncio.sleep(0.01)
    finally:
        pathlib.Path("ended").touch()

async def hand_on(request, call_next):
    return await call_next(request)

rpc = web_app(some)
app = FastAPI()
app.mount("/rpc", rpc)
behind = FastAPI()
behind.add_middleware(BaseHTTPMiddleware, dispatch=hand_on)
behind.mount("/rpc", rpc)
app.mount("/behind", behind)
"""


@contextmanager
def running(server: str, app: str, folder: Path) -> Iterator[str]:
    (folder / "some_app.py").write_text(APP)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    options = {
        "uvicorn": ["--port", port, "--log-level", "warning"],
        "hypercorn": ["--bind", f"127.0.0.1:{port}", "--graceful-timeout", "0"],
        "granian": ["--interface", "asginl", "--port", port, "--workers-kill-timeout", "1"],
    }[server]
    command = [sys.executable, "-m", server, app, *options]
    with subprocess.Popen(command, cwd=folder, stdout=-1, stderr=subprocess.STDOUT) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            eventually_sync(lambda: listens(port) or process.poll() is not None, within=20)
            yield url
            process.terminate()
            said = process.communicate(timeout=15)[0].decode()
            # What Hypercorn says of connections that it cuts when it ends has no word after it.
            assert "Error: " not in said, said
        finally:
            process.kill()


def listens(port: str) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", int(port))) == 0


@pytest.mark.once
@pytest.mark.parametrize(
    ("server", "app", "versions"),
    [("uvicorn", "some_app:behind", [1]), ("hypercorn", "some_app:app", [1, 2]), ("granian", "some_app:app", [1, 2])],
)
def test_a_value_a_stream_an_error_and_leaving(server, app, versions, tmp_path):
    with running(server, app, tmp_path) as url:
        for version in versions:
            call_all(f"{url}/rpc/some.v1.SomeService/", version, tmp_path / "ended")
            behind = "/rpc" if app.endswith("behind") else "/behind/rpc"
            leave_before_the_answer(f"{url}{behind}/some.v1.SomeService/", version, tmp_path / "ended")


def connected(url: str, version: int) -> httpx.Client:
    return httpx.Client(base_url=url, http1=version == 1, http2=version == 2)


def leave_before_the_answer(url: str, version: int, ended: Path) -> None:
    """While the function runs; and before all of the request has come."""
    ended.unlink(missing_ok=True)

    def left() -> bool:
        with connected(url, version) as client, suppress(httpx.ReadTimeout):
            client.post("Never", json=[], timeout=httpx.Timeout(10, read=0.1))
        return ended.exists()

    eventually_sync(left)
    to = urlsplit(url)
    with socket.create_connection((to.hostname, to.port)) as client:
        lines = f"POST {to.path}Never HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2"
        client.sendall(f"{lines}\r\n\r\n[".encode())


def call_all(url: str, version: int, ended: Path) -> None:
    ended.unlink(missing_ok=True)
    with connected(url, version) as client:
        assert client.post("Add", json=[2, 3]).json() == 5
        answer = client.post("Missing", json=[])
        assert (answer.status_code, answer.json()) == (404, {"code": 5, "message": "nothing here"})
        answer = client.post(
            "Add", content=frame(pack(b"[2, 3]")), headers={"content-type": "application/grpc-web+proto"}
        )
        (_, message), (_, last) = Frames(1000).feed(answer.content)
        assert (unpack(message), read_trailers(last)) == (b"5", {"grpc-status": "0"})
        if version == 1:  # Hypercorn closes an HTTP/2 connection where an answer comes before its request was read
            assert client.post("Add", json=[1, 1], headers={"origin": "https://evil.example.com"}).status_code == 403
        # By a client of its own: httpx ends no stream of a connection that goes on with HTTP/2.
        with connected(url, version) as leaving, leaving.stream("POST", "Forever", json=[]) as lines:
            assert lines.http_version == f"HTTP/{'1.1' if version == 1 else version}"
            assert [json.loads(line) for line, _ in zip(lines.iter_lines(), range(3), strict=False)] == [0, 1, 2]
        eventually_sync(ended.exists)
        assert client.post("Add", json=[2, 3]).json() == 5
