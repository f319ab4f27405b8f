"""The programs that the README shows, run as it says."""

import json
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
from http_server import serving_http

from ephaptic_grpc import CallError, Server, connect, connect_sync
from ephaptic_grpc.asgi import web_app
from examples import tokens
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


def test_grpc_and_http_drain_together(grpc_port, tmp_path, capfd):
    """With a stream that waits for ever, and a shorter grace."""
    text = (ROOT / "examples/fastapi_app.py").read_text()
    for old, new in {"GRACE: Final = 5.0": "GRACE: Final = 0.3", "yield order\n": "yield order\n    {wait}\n"}.items():
        assert text.count(old) == 1
        text = text.replace(old, new.format(wait="await asyncio.Event().wait()"))
    (tmp_path / "app.py").write_text(text)
    target = f"127.0.0.1:{grpc_port}"
    with (
        uvicorn_process("app:app", tmp_path) as (url, process),
        connect_sync(target, "orders.v1.OrdersService") as client,
    ):
        client.place({"item": "tea"})
        stream = iter(client.history())
        assert next(stream)["item"] == "tea"
        with httpx.stream("POST", f"{url}/rpc/orders.v1.OrdersService/History", json=[], timeout=30) as answer:
            lines = answer.iter_lines()
            assert json.loads(next(lines))["item"] == "tea"
            process.terminate()
            (last,) = lines
        assert json.loads(last)["error"]["details"][0]["reason"] == "DRAINING"
        with pytest.raises(CallError, match="draining"):
            next(stream)
        process.wait(15)
    assert capfd.readouterr().err == ""


def test_who_has_no_token_gets_nothing_whichever_way_they_come(serve):
    served, app, bearer = serve(tokens.notes), web_app(tokens.notes), f"Bearer {tokens.TOKEN}"
    client = served.client.with_options(metadata={"authorization": bearer})
    assert (client.add("tea"), list(client.read()), client.count()) == (1, ["tea"], 1)
    for call in (lambda: served.client.add("x"), lambda: next(iter(served.client.read())), served.client.count):
        with pytest.raises(CallError, match="UNAUTHENTICATED: this needs a token"):
            call()
    with serving_http(app) as url:
        for function, arguments, value in (("Add", ["milk"], "2"), ("Read", [], '"tea"\n"milk"\n'), ("Count", [], "2")):
            path = f"{url}/notes.v1.NotesService/{function}"
            assert httpx.post(path, json=arguments).status_code == 401
            assert httpx.post(path, json=arguments, headers={"authorization": bearer + "x"}).status_code == 401
            assert httpx.post(path, json=arguments, headers={"authorization": bearer}).text == value


@contextmanager
def uvicorn(app: str, folder: Path) -> Iterator[str]:
    """The URL of an app that uvicorn serves, on a free port."""
    with uvicorn_process(app, folder) as (url, _):
        yield url


@contextmanager
def uvicorn_process(app: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        command = [sys.executable, "-m", "uvicorn", app, "--fd", str(listener.fileno()), "--log-level", "warning"]
        with subprocess.Popen(command, cwd=folder, pass_fds=[listener.fileno()], env=os.environ) as server:
            try:
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                httpx.get(url, timeout=20)  # answered when the app has started
                yield url, server
            finally:
                server.terminate()
                assert server.wait(15) is not None
