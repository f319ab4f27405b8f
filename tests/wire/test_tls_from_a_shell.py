"""TLS on the command line: a server's options, and those of what calls it, which are curl's and grpcurl's."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from authority import Authority

pytestmark = pytest.mark.once

APP = """
from ephaptic_grpc import Service, current_call

chat = Service("chat.v1.ChatService")

@chat.expose
async def who() -> str | None:
    identity = current_call().peer_identity
    return identity and identity.common_name
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    (folder / "chat.py").write_text(APP)
    authority = Authority(folder)
    for name, files in {
        "server": authority.issue("localhost"),
        "carl": authority.issue("carl.example", common_name="carl"),
        "old": authority.issue("localhost", valid=(-9, -1)),
    }.items():
        files["certificate"].rename(folder / f"{name}.pem")
        files["key"].rename(folder / f"{name}.key")
    return folder


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "ephaptic_grpc", *words]


@pytest.fixture(scope="module")
def run(folder) -> Callable[..., subprocess.CompletedProcess[str]]:
    return lambda *words: subprocess.run(command(*words), cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def target(folder) -> Iterator[str]:
    """Where a server is that is open to other machines, so that it must not tell its contract."""
    options = ["--tls-cert", "server.pem", "--tls-key", "server.key", "--client-ca", "ca.pem", "--reflection"]
    words = command("serve", "chat", "--host", "0.0.0.0", "--port", "0", *options)
    with subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        try:
            said = [server.stderr.readline() for _ in range(3)]
            assert "the TLS certificate in use is valid until " in said[0]
            assert said[1] == "Serving chat.v1.ChatService: who\n"  # and no warning
            yield f"localhost:{said[2].split()[1].rpartition(':')[2]}"
        finally:
            server.kill()


WHO = "chat.v1.ChatService/who"
CARL = ("--cacert", "ca.pem", "--cert", "carl.pem", "--key", "carl.key")


def test_a_call(run, target):
    done = run("call", target, WHO, *CARL)
    assert (done.stdout, done.stderr, done.returncode) == ('"carl"\n', "", 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "UNAVAILABLE: can't connect to TARGET: the server speaks TLS, this client doesn't: it needs tls= (--tls)"),
        (
            ("--cacert", "ca.pem"),
            "UNAVAILABLE: can't connect to TARGET: the server hung up once it had proved who it is",
        ),
        (
            ("--tls",),
            "UNAVAILABLE: can't connect to TARGET: the server's certificate was issued by an unknown authority",
        ),
        (("--cacert", "ca.pem", "--cert", "old.pem", "--key", "old.key"), "the certificate expired on "),
    ],
)
def test_a_call_that_can_not_be(run, target, options, said):
    done = run("call", target, WHO, *options)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [line.startswith("error: " + said.replace("TARGET", target)) for line in lines] == [True], done.stderr
    assert done.returncode == 1


def test_the_contract_of_a_server_that_speaks_tls(run, target):
    assert run("generate", target, "-o", "client.py", *CARL).stdout == "wrote client.py\n"
    assert run("check", "chat:chat", "--against", target, *CARL).returncode == 0
    assert "can't read none.pem: No such" in run("generate", target, "-o", "c.py", "--cacert", "none.pem").stderr


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("serve", "chat", "--tls-cert", "server.pem"), "--tls-cert and --tls-key go together", 2),
        (("call", "localhost:1", WHO, "--cert", "carl.pem"), "--cert and --key go together", 2),
        (
            ("serve", "chat", "--tls-cert", "old.pem", "--tls-key", "old.key"),
            "the certificate expired",
            1,
        ),
        (
            ("serve", "chat", "--tls-cert", "none.pem", "--tls-key", "carl.key"),
            "can't read none.pem: No such file or directory",
            1,
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run, words, said, code):
    done = run(*words)
    assert done.stderr.startswith(f"error: {said}")
    assert (done.stderr.count("\n"), done.returncode) == (1, code)


def test_a_server_that_is_open_to_other_machines_without_tls_says_so_once(folder):
    words = command("serve", "chat", "--host", "0.0.0.0", "--port", "0")
    with subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        try:
            said = [server.stderr.readline() for _ in range(3)]
        finally:
            server.kill()
    assert ["WARNING ephaptic_grpc: 0.0.0.0:" in line for line in said] == [True, False, False]
    assert said[0].endswith(" is open to other machines, without TLS: give the server tls= (--tls-cert, --tls-key)\n")
