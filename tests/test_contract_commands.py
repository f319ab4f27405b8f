"""``ephaptic-grpc check``, as a user runs it."""

import json
import os
import pty
import shutil
import subprocess
import sys
import textwrap

import pytest
from test_cli import APP, run, serving


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shop.py").write_text(textwrap.dedent(APP))
    assert run(tmp_path, "compile", "shop", "-o", "old.binpb").returncode == 0
    return tmp_path


def change(folder, old, new):
    text = (folder / "shop.py").read_text()
    assert old in text
    (folder / "shop.py").write_text(text.replace(old, new))
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)  # which goes by whole seconds, and the size


def test_nothing_changed(folder):
    done = run(folder, "check", "shop:shop", "--against", "old.binpb")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "shop.v1.ShopService: nothing has changed for its callers\n"


def test_what_breaks_is_said_and_fails(folder):
    change(folder, "= 1\n", "\n")
    done = run(folder, "check", "shop:shop", "--against", "old.binpb")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == textwrap.dedent("""\
        shop.v1.ShopService: 1 breaking

        breaking    place(order.quantity)
                      has to be given now: callers who leave it out are refused; give it a default
    """)


def test_what_is_unclear_fails_unless_it_is_allowed(folder):
    change(folder, "= 1\n", "= 2\n")
    assert run(folder, "check", "shop", "--against", "old.binpb").returncode == 2
    done = run(folder, "check", "shop", "--against", "old.binpb", "--allow-unclear")
    assert done.returncode == 0
    assert "has the default 2 instead of 1" in done.stdout
    change(folder, "item: str", "item: int")
    assert run(folder, "check", "shop", "--against", "old.binpb", "--allow-unclear").returncode == 1


def test_what_is_compatible_passes_and_machines_are_told(folder):
    change(folder, "count(to: int)", "count(to: float)")
    done = run(folder, "check", "shop", "--against", "old.binpb", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "service": "shop.v1.ShopService",
        "verdict": "compatible",
        "findings": [
            {
                "severity": "compatible",
                "function": "count",
                "path": "to",
                "sentence": "was int, is float: all that callers send is still taken",
            }
        ],
    }


def test_a_running_server_is_compared_with_the_code(folder):
    with serving(folder, "shop") as (address, _):
        assert run(folder, "check", "shop", "--against", address).returncode == 0
        change(folder, "def count", "def counted")
        done = run(folder, "check", "shop", "--against", address, "--service", "shop.v1.ShopService")
        assert done.returncode == 1
        assert "is called counted now" in done.stdout
        assert run(folder, "check", address, "--against", "old.binpb").returncode == 0


def test_what_is_no_contract_is_said(folder):
    done = run(folder, "check", "shop", "--against", "new.binpb")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: can't read new.binpb: No such file or directory\n"


@pytest.mark.parametrize(("no_colour", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_that_want_them(folder, no_colour, coloured):
    change(folder, "= 1\n", "\n")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ephaptic_grpc", "check", "shop", "--against", "old.binpb"]
    environment = {**os.environ, "NO_COLOR": no_colour, "TERM": "xterm"}
    done = subprocess.run(command, cwd=folder, stdout=theirs, stderr=subprocess.PIPE, env=environment, text=True)
    os.close(theirs)
    said = os.read(ours, 10_000).decode()
    os.close(ours)
    assert (done.returncode, done.stderr) == (1, "")
    assert "has to be given now" in said
    assert ("\x1b[1;31m" in said) == coloured
