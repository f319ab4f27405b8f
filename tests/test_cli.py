import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner
from waiting import eventually_sync

from ephaptic_grpc import Service, current_call
from ephaptic_grpc.cli import app

APP = """
    import asyncio
    from typing import Annotated, AsyncIterator
    import grpc
    from pydantic import BaseModel, Field
    from ephaptic_grpc import Service, ServiceError

    shop = Service("shop.v1.ShopService")

    class Order(BaseModel):
        item: str
        quantity: Annotated[int, Field(ge=1)] = 1

    @shop.expose
    async def place(order: Order, note: str = "") -> str:
        "Place an order."
        if order.item == "unicorn":
            raise ServiceError(grpc.StatusCode.NOT_FOUND, "there are no unicorns", details={"item": order.item})
        return f"{order.quantity} x {order.item}{note}"

    @shop.expose
    async def count(to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shop.py").write_text(textwrap.dedent(APP))
    return tmp_path


def run(folder: Path, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ephaptic_grpc", *arguments], cwd=folder, capture_output=True, text=True, **options
    )


def in_shell(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A script that has the command as its own arguments."""
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "ephaptic_grpc", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@contextmanager
def serving(
    folder: Path, *arguments: str, stop: int = signal.SIGTERM, ends: int = 0, by: Sequence[str] = ()
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of a server that listens, and its process, which ends with the block, and well."""
    command = [*by, sys.executable, "-m", "ephaptic_grpc", "serve", "--port", "0", *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            yield next_address(server), server
            server.send_signal(stop)
            assert server.wait(15) == ends
        finally:
            server.kill()


def next_address(server: subprocess.Popen[str]) -> str:
    said = []
    for line in server.stderr:
        said.append(line)
        if found := re.match(r"on (\S+) ", line):
            return found[1]
    raise AssertionError("".join(said))


@pytest.fixture
def address(folder):
    with serving(folder, "shop") as (address, _):
        yield address


METHOD = "shop.v1.ShopService/place"


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ([METHOD, '{"order": {"item": "tea"}}'], '"1 x tea"\n'),
        ([METHOD, '[{"item": "tea"}, "!"]'], '"1 x tea!"\n'),
        ([METHOD, 'order:={"item": "tea", "quantity": 2}', "note==é"], '"2 x tea=é"\n'),
        (["shop.v1.ShopService.place", 'order:={"item": "tea"}'], '"1 x tea"\n'),
        (["/shop.v1.ShopService/Place", 'order:={"item": "tea"}'], '"1 x tea"\n'),
        (["shop.v1.ShopService/count", "to:=3"], "0\n1\n2\n"),
        (["shop.v1.ShopService/count", "to:=0"], ""),
    ],
)
def test_call_prints_json_a_line_for_each_value(folder, address, arguments, printed):
    result = run(folder, "call", address, *arguments)
    assert (result.stdout, result.stderr, result.returncode) == (printed, "", 0)


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (
            [METHOD, '{"order": {"item": 3}}'],
            "error: INVALID_ARGUMENT: bad arguments\n  order.item: Input should be a valid string\n",
            1,
        ),
        (
            [METHOD, '{"order": {"item": "unicorn"}}'],
            'error: NOT_FOUND: there are no unicorns\n  {"item":"unicorn"}\n',
            1,
        ),
        (["shop.v1.ShopService/sell"], "error: UNIMPLEMENTED: the server has no shop.v1.ShopService/Sell\n", 1),
        ([METHOD, '{"order": '], "error: bad JSON: EOF while parsing a value at line 1 column 10\n", 2),
        ([METHOD, "order:=tea"], "error: 'order:=tea' is not JSON after ':='; for text write 'order=tea'\n", 2),
        ([METHOD, "tea"], "error: 'tea' is neither name=text, name:=json, nor a JSON object or array\n", 2),
        (
            [METHOD, '{"order": {}}', "note=!"],
            "error: '{\"order\": {}}' is all the arguments: put the others into it, or give each by its name\n",
            2,
        ),
        (
            [METHOD, 'order={"item": "tea"}'],
            "error: INVALID_ARGUMENT: bad arguments\n"
            "  order: Input should be an object (this is text; for JSON write 'order:=...')\n",
            1,
        ),
        (
            ["place"],
            "error: a method is a service and a function, such as chat.v1.ChatService/ai_response, not 'place'\n",
            2,
        ),
    ],
)
def test_call_says_what_is_wrong_and_exits_with_an_error(folder, address, arguments, said, code):
    result = run(folder, "call", address, *arguments)
    assert (result.stdout, result.stderr.replace(address, "ADDRESS"), result.returncode) == ("", said, code)


def test_call_sends_headers_and_a_deadline_and_reads_stdin(folder, serve):
    asked = Service("asked.v1.AskedService")

    @asked.expose
    def seen(text: str) -> tuple[str, str, bytes, bool]:
        call, metadata = current_call(), current_call().metadata
        return text, metadata["authorization"], metadata["x-trace-bin"], 0 < (call.remaining() or 0) < 120

    options = ["-H", "Authorization: Bearer a:b", "-H", "x-trace-bin: AAE=", "--timeout", "60"]
    result = run(folder, "call", serve(asked).address, "asked.v1.AskedService/seen", "-", *options, input='["in"]')
    assert (result.stdout, result.stderr) == ('["in","Bearer a:b","AAE=",true]\n', "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["call", "x:1", METHOD, "-H", "secret"], "-H takes 'name: value', and number 1 is not of that form"),
        (["call", "x:1", METHOD, "-H", "é: secret"], "'é' can't be a key of metadata"),
        (["call", "x:1", METHOD, "-H", "a: secret\x07."], "'a' must be printable ASCII"),
        (["call", "x:1", METHOD, "-H", "a-bin: secret"], "the value of a name that ends with '-bin' is base64"),
        (["call", "x:1", METHOD, "k:=1", "k:=2"], "'k' is given twice; a list is one argument: 'k:=[1, 2]'"),
        (
            ["generate", "shop:shop", "-o", "x.py", "--cacert", "x"],
            "for a running server (host:port), not for shop:shop",
        ),
        (
            ["check", "a", "--against", "b.binpb", "--tls"],
            "for a running server (host:port), not for a and b.binpb",
        ),
    ],
)
def test_what_can_never_be_right_is_said_at_once(arguments, said):
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert "secret" not in result.stderr


def test_call_wants_a_host_and_a_port(folder):
    result = run(folder, "call", "http://localhost", METHOD)
    said = "error: a target is host:port, such as localhost:50051, not 'http://localhost': write 'localhost:50051'\n"
    assert (result.stderr, result.returncode) == (said, 2)


def test_call_of_a_server_that_is_not_there(folder):
    result = run(folder, "call", "127.0.0.1:1", METHOD)
    assert result.returncode == 1
    assert result.stderr.startswith("error: UNAVAILABLE: ")
    assert len(result.stderr.splitlines()) == 1


def test_call_shows_items_as_they_arrive_and_stops_with_its_reader(folder):
    (folder / "slow.py").write_text(
        textwrap.dedent("""
            import asyncio
            from ephaptic_grpc import expose

            @expose
            async def forever():
                try:
                    while True:
                        yield "tick"
                        await asyncio.sleep(0.01)
                finally:
                    print("stopped", flush=True)
        """)
    )
    command = [sys.executable, "-m", "ephaptic_grpc", "call"]
    with serving(folder, "slow", stop=signal.SIGINT) as (address, server):
        caller = subprocess.Popen(
            [*command, address, "functions.v1.FunctionsService/forever"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with caller:
            assert caller.stdout.readline() == '"tick"\n'
            caller.stdout.close()  # as `head -1` does
            assert caller.wait(10) == 0
            assert caller.stderr.read() == ""
        assert server.stdout.readline() == "stopped\n"


def test_list_shows_what_a_module_exposes(folder):
    assert run(folder, "list", "shop").stdout == textwrap.dedent("""\
        shop.v1.ShopService
          place(order: Order, note: str = "") -> str
              /shop.v1.ShopService/Place
              Place an order.
          count(to: int) -> stream of int
              /shop.v1.ShopService/Count
    """)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "nothing"], "there is no module 'nothing' here"),
        (["serve", "shop.py"], "'shop.py' is a file: name the module, such as 'shop'"),
        (["list", "shop:ship"], "shop has no service 'ship' (did you mean 'shop'?)"),
        (["list", "shop:orders"], "shop has no service 'orders' (it has shop)"),
        (
            ["compile", "shop", "-o", "shop.proto"],
            "-o names the folder, in which each service gets its file",
        ),
        (["list", "shop.shop"], ") or among the installed ones: its service is shop:shop"),
        (["list", "empty"], "empty exposes nothing: put @expose on a function, or make a Service"),
        (["list", "bad"], "first (%s:4) can't be exposed on functions.v1.FunctionsService: a name that begins"),
        (["list", "late"], "its annotations name what is not defined: name 'Missing' is not defined"),
        (["compile", "late", "-o", "out"], "its annotations name what is not defined: name 'Missing' is not defined"),
        (["serve", "shop", "--host", "192.0.2.1"], "can't listen on 192.0.2.1:50051: "),
    ],
)
def test_what_cannot_be_loaded_or_served_is_said_in_one_line(folder, arguments, said):
    (folder / "empty.py").write_text("")
    (folder / "bad.py").write_text("\nfrom ephaptic_grpc import expose\n\n@expose\ndef _first(): ...\n")
    (folder / "late.py").write_text("from ephaptic_grpc import expose\n@expose\ndef late(x: 'Missing'): ...\n")
    result = run(folder, *arguments)
    assert result.returncode in (1, 2)
    assert result.stdout == ""
    said = said.replace("first (%s", f"_first ({folder / 'bad.py'}")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_module_that_fails_shows_its_own_traceback_and_no_other(folder):
    (folder / "broken.py").write_text("import shop\nimport nowhere\n")
    result = run(folder, "list", "broken")
    assert (result.returncode, result.stderr.splitlines()) == (
        1,
        [
            "error: broken can't be imported:",
            "Traceback (most recent call last):",
            f'  File "{folder / "broken.py"}", line 2, in <module>',
            "    import nowhere",
            "ModuleNotFoundError: No module named 'nowhere'",
        ],
    )


def test_a_file_where_a_folder_should_be(folder):
    (folder / "out").write_text("")
    result = run(folder, "compile", "shop", "-o", "out")
    assert (result.returncode, result.stderr) == (1, "error: can't write out/shop/v1/shop.proto: Not a directory\n")


def test_a_full_disk_is_said_in_one_line(folder):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "ephaptic_grpc", "list", "shop"]
        result = subprocess.run(command, cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr) == (1, "error: what is printed: No space left on device\n")


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["list", "shop"], "", 0),
        (["call", "localhost:1", METHOD, "-"], "error: '' is neither name=text, name:=json, nor a JSON object", 2),
    ],
)
def test_standard_streams_may_be_closed(folder, arguments, said, code):
    result = in_shell(folder, 'exec "$@" <&- >&-', *arguments)
    assert (result.returncode, result.stderr[: len(said) or None]) == (code, said)


@pytest.mark.once
def test_a_server_without_standard_output_ends_well(folder):
    with serving(folder, "shop", by=["sh", "-c", 'exec "$@" >&-', "sh"]):
        pass


@pytest.mark.once
def test_a_working_folder_that_has_been_removed(folder):
    (folder / "gone").mkdir()
    result = in_shell(folder / "gone", 'rmdir ../gone && exec "$@"', "list", "shop")
    assert (result.stderr, result.returncode) == ("error: the working folder has been removed\n", 1)


def test_nothing_said_is_help(folder):
    result = run(folder)
    assert "Usage: ephaptic-grpc " in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_version(folder):
    assert run(folder, "--version").stdout == f"{version('ephaptic-grpc')}\n"


def test_a_port_that_is_taken_is_said(folder, address):
    result = run(folder, "serve", "shop", "--port", address.rpartition(":")[2])
    assert (result.returncode, result.stderr) == (
        1,
        f"error: can't listen on {address}: another program uses this port\n",
    )


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_serve_takes_several_modules_and_a_loop(folder, loop):
    (folder / "more.py").write_text(
        "from ephaptic_grpc import Service, expose\n"
        "one = Service('one.v1.OneService')\n"
        "two = Service('two.v1.TwoService')\n"
        "@one.expose\n@two.expose\n@expose\ndef number() -> int: return 7\n"
        "@one.expose\ndef loop() -> str: return 'threads have none'\n"
    )
    with serving(folder, "more:one", "shop", "--loop", loop) as (address, _):
        assert run(folder, "call", address, "one.v1.OneService/number").stdout == "7\n"
        assert run(folder, "call", address, "two.v1.TwoService/number").returncode == 1
        assert run(folder, "call", address, "shop.v1.ShopService/count", "to:=1").stdout == "0\n"


@pytest.mark.parametrize("options", [(), ("--reload",)])
def test_experiments_are_chosen_before_grpc_is_there(folder, options):
    (folder / "shop.py").write_text(
        "import os\nfrom ephaptic_grpc import expose\n"
        "@expose\ndef chosen() -> str:\n    return os.environ['GRPC_EXPERIMENTS']\n"
    )
    with serving(folder, "shop", "--grpc-experiments", *options, stop=signal.SIGINT) as (address, _):
        result = run(folder, "call", address, "functions.v1.FunctionsService/chosen")
    assert (result.stdout, result.stderr) == ('"-event_engine_listener,-event_engine_client"\n', "")


def test_reload_serves_what_changed(folder):
    with serving(folder, "shop", "--reload", stop=signal.SIGINT) as (address, server):
        assert run(folder, "call", address, "shop.v1.ShopService/count", "to:=1").stdout == "0\n"
        (folder / "shop.py").write_text(textwrap.dedent(APP).replace("yield number", "yield number + 41"))
        address = next_address(server)
        assert run(folder, "call", address, "shop.v1.ShopService/count", "to:=1").stdout == "41\n"


def test_reload_ends_by_sigint_which_shells_have_ignored_behind_an_ampersand(folder):
    serve = [sys.executable, "-m", "ephaptic_grpc", "serve", "shop", "--port", "0", "--reload"]
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *serve]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        try:
            next_address(server)
            server.send_signal(signal.SIGINT)
            assert server.wait(15) == 0
        finally:
            server.kill()


def test_a_server_that_reloads_ends_with_its_watcher(folder):
    with serving(folder, "shop", "--reload", stop=signal.SIGKILL, ends=-signal.SIGKILL) as (address, _):
        pass
    eventually_sync(lambda: run(folder, "call", address, "shop.v1.ShopService/count", "to:=1").returncode != 0)


def test_reload_waits_for_what_is_wrong_to_be_mended(folder):
    (folder / "odd.py").write_text("from ephaptic_grpc import expose\n@expose\ndef _odd(): ...\n")
    command = [sys.executable, "-m", "ephaptic_grpc", "serve", "odd", "--port", "0", "--reload"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr.readline().startswith("Watching ")
            assert server.stderr.readline().startswith("error: _odd ")
            assert server.stderr.readline() == "Waiting for a change.\n"
            (folder / "odd.py").write_text("from ephaptic_grpc import expose\n@expose\ndef odd() -> int: return 1\n")
            address = next_address(server)
            assert run(folder, "call", address, "functions.v1.FunctionsService/odd").stdout == "1\n"
            server.send_signal(signal.SIGINT)
            server.wait(15)
            assert "Traceback" not in server.stderr.read()
        finally:
            server.kill()


def test_compile_writes_once_and_check_tells_when_it_must_be_done_again(folder):
    first = run(folder, "compile", "shop", "-o", "out")
    assert first.stdout == "".join(
        f"wrote out/{path}.proto\n"
        for path in ("shop/v1/shop", "ephaptic_grpc/v1/contract", "ephaptic_grpc/v1/payload")
    )
    assert run(folder, "compile", "shop", "-o", "out").stdout == "out is up to date\n"
    assert run(folder, "compile", "shop", "-o", "out", "--check").returncode == 0
    (folder / "shop.py").write_text(textwrap.dedent(APP).replace("def count", "def count_up"))
    changed = run(folder, "compile", "shop", "-o", "out", "--check")
    assert changed.returncode == 1
    assert changed.stdout == "out/shop/v1/shop.proto differs\n"
    assert "CountUp" not in (folder / "out/shop/v1/shop.proto").read_text()


def test_stubs_call_a_server_with_plain_json(folder, address):
    """Beside a module of the package's name, and beside the package."""
    assert run(folder, "compile", "shop", "-o", "stubs", "--stubs").returncode == 0
    code = f"""
        import json
        import grpc
        import shop  # the module
        from stubs.shop.v1 import payload_pb2, shop_pb2_grpc

        with grpc.insecure_channel({address!r}) as channel:
            stub = shop_pb2_grpc.ShopServiceStub(channel)
            reply = stub.Place(payload_pb2.Payload(json=json.dumps({{"order": {{"item": "tea"}}}})))
            items = stub.Count(payload_pb2.Payload(json="[3]"))
            print(json.loads(reply.json), [json.loads(item.json) for item in items])
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (result.stdout, result.stderr) == ("1 x tea [0, 1, 2]\n", "")


def test_help_teaches(folder):
    for command in ([], ["serve"], ["call"], ["list"], ["compile"]):
        result = run(folder, *command, "--help", env={**os.environ, "COLUMNS": "200"})
        assert result.returncode == 0
    assert "name:=json" in run(folder, "call", "--help", env={**os.environ, "COLUMNS": "200"}).stdout


def test_output_is_json_lines_whatever_the_value(folder):
    (folder / "odd.py").write_text(
        "from ephaptic_grpc import expose\n@expose\ndef odd(): return {'text': 'a\\nb\\u2028c', 'none': None}\n"
    )
    with serving(folder, "odd") as (address, _):
        line = run(folder, "call", address, "functions.v1.FunctionsService/odd").stdout
    assert line.count("\n") == 1
    assert json.loads(line) == {"text": "a\nb\u2028c", "none": None}


def test_what_a_terminal_cannot_show_is_escaped(folder):
    (folder / "umlaut.py").write_text("from ephaptic_grpc import expose\n@expose\ndef f(): 'Grüße.'\n", "utf-8")
    result = run(folder, "list", "umlaut", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stderr) == (0, "")
    assert "Gr\\xfc\\xdfe." in result.stdout


@pytest.mark.parametrize("module", ["", ".shop", ":shop"])
def test_no_module_at_all(folder, module):
    result = run(folder, "list", module)
    assert result.returncode == 2
    assert result.stderr.endswith("is no module: name one, such as 'chat' or 'app.rpc:chat'\n")


def test_a_file_that_is_no_text_differs(folder):
    assert run(folder, "compile", "shop", "-o", "out").returncode == 0
    (folder / "out/shop/v1/shop.proto").write_bytes(b"\xff")
    assert run(folder, "compile", "shop", "-o", "out", "--check").returncode == 1
    assert run(folder, "compile", "shop", "-o", "out").returncode == 0
    assert run(folder, "compile", "shop", "-o", "out", "--check").returncode == 0
