"""The programs that the README shows, run as it says."""

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pydoc_data.topics import topics

import httpx
import pytest

from ephaptic_grpc import Server, connect, connect_sync
from examples.chat import Load, chat
from examples.fastapi_app import Order, orders

ROOT = Path(__file__).parent.parent


@pytest.mark.anyio
async def test_the_chat_answers_from_the_manual_word_by_word():
    async with Server(chat, port=0) as server, connect(server.address, chat) as client:
        words = [word async for word in client.ai_response("How do I write a lambda?")]
    assert len(words) > 10
    assert topics["lambda"].startswith("".join(words)[:100])


@pytest.mark.anyio
async def test_the_load_is_measured(anyio_backend):
    async with Server(chat, port=0) as server, connect(server.address, chat) as client:
        async for load in client.system_load(interval=0.05):
            assert isinstance(load, Load)
            assert 0 < load.memory_percent < 100
            assert 0 <= load.cpu_percent <= 100
            break


FAKE_MODEL = """
import json
from fastapi import FastAPI, Header
from fastapi.responses import StreamingResponse

app = FastAPI()

@app.post("/v1/chat/completions")
async def complete(request: dict, authorization: str = Header()):
    assert request["stream"] and authorization == "Bearer key"
    words = request["messages"][0]["content"].split()
    async def events():
        for word in words:
            yield "data: " + json.dumps({"choices": [{"delta": {"content": word}}]}) + "\\n\\n"
        yield "data: [DONE]\\n\\n"
    return StreamingResponse(events(), media_type="text/event-stream")
"""


@pytest.mark.anyio
async def test_the_chat_streams_from_an_openai_compatible_server(tmp_path, monkeypatch):
    (tmp_path / "model.py").write_text(FAKE_MODEL)
    with uvicorn("model:app", tmp_path) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        async with Server(chat, port=0) as server, connect(server.address, chat) as client:
            assert [word async for word in client.ai_response("every word comes back")] == [
                "every",
                "word",
                "comes",
                "back",
            ]


def test_ask_prints_the_answer(serve):
    served = serve(chat)
    result = subprocess.run(
        [sys.executable, "-m", "examples.ask", served.address, "How do I write a lambda?"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith("Lambdas")


@pytest.fixture
def grpc_port(monkeypatch) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    monkeypatch.setenv("GRPC_PORT", port)
    return port


def test_grpc_and_http_in_one_process(grpc_port):
    with uvicorn("examples.fastapi_app:app", ROOT) as url, connect_sync(f"127.0.0.1:{grpc_port}", orders) as client:
        assert client.place(Order(item="tea", quantity=2)) == 1
        assert httpx.post(f"{url}/rpc/orders.v1.OrdersService/Place", json=[{"item": "tea"}]).json() == 2
        assert httpx.get(f"{url}/orders").json() == [{"item": "tea", "quantity": 2}, {"item": "tea", "quantity": 1}]
        paths = httpx.get(f"{url}/openapi.json").json()["paths"]
        assert {"/orders", "/rpc/orders.v1.OrdersService/Place"} <= paths.keys()


def test_what_the_readme_says_of_curl(grpc_port):
    """Each command, and what it prints; three dots are for more."""
    text = (ROOT / "README.md").read_text()
    told = re.findall(r"^\$ (curl .+)\n((?:(?!\$ |```).*\n)*)", text, re.MULTILINE)
    assert len(told) >= 4
    with uvicorn("examples.fastapi_app:app", ROOT) as url:
        for command, printed in told:
            run = shlex.split(command.replace("localhost:8000", url))
            result = subprocess.run([*run, "--silent"], capture_output=True, text=True, timeout=20)
            assert result.returncode == 0, (command, result.stderr)
            begin, _, end = printed.strip().partition("...")
            assert result.stdout.strip().startswith(begin), command
            assert result.stdout.strip().endswith(end), command


@contextmanager
def uvicorn(app: str, folder: Path) -> Iterator[str]:
    """The URL of an app that uvicorn serves, on a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        command = [sys.executable, "-m", "uvicorn", app, "--fd", str(listener.fileno()), "--log-level", "warning"]
        with subprocess.Popen(command, cwd=folder, pass_fds=[listener.fileno()], env=os.environ) as server:
            try:
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                httpx.get(url, timeout=20)  # answered when the app has started
                yield url
            finally:
                server.terminate()
                assert server.wait(15) is not None
