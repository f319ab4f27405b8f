"""What a hostile server can do to the terminal of who calls it with the command line: nothing."""

import subprocess
import sys

import grpc
import pytest

from ephaptic_grpc import Service, ServiceError
from ephaptic_grpc.calling import one_line


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b'{"a": "\xc3\xb6"}', b'{"a": "\xc3\xb6"}'),
        (b'{\n\t"a":\r\n1}', b'{  "a":  1}'),
        (b'"\x1b[2K"', b'"\\u001b[2K"'),
        (b'"\xc2\x9b1A"', b'"\\u009b1A"'),
        (b'1\n"forged"', b'1 "forged"'),
        (b"\x07\x08\x7f", b"\\u0007\\u0008\\u007f"),
    ],
)
def test_a_value_is_one_line(sent, shown):
    assert one_line(sent) == shown


@pytest.mark.once
def test_an_error_is_told_without_what_a_terminal_obeys(serve, tmp_path):
    lines = Service("functions.v1.FunctionsService")
    escape = "\x1b[2K\x1b[1A\nerror: forged\u2028\x9b1A"

    @lines.expose
    async def fails() -> int:
        raise ServiceError(grpc.StatusCode.NOT_FOUND, f"no {escape}", {"it": escape})

    address = serve(lines).address
    told = subprocess.run(
        [sys.executable, "-m", "ephaptic_grpc", "call", address, "functions.v1.FunctionsService/fails"],
        capture_output=True,
        cwd=tmp_path,
    )
    assert told.returncode == 1
    first, second = told.stderr.splitlines()
    assert first.startswith(b"error: NOT_FOUND: no \\x1b[2K")
    assert second.startswith(b'  {"it":"\\u001b')
    assert b"\x1b" not in told.stderr
    assert "\u2028".encode() not in told.stderr
