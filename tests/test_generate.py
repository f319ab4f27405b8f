"""The commands that write contracts and clients, as a user runs them."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from test_cli import APP, run, serving
from waiting import eventually_sync

USE = """
    import asyncio, sys
    from ephaptic_grpc import connect
    import shop_client

    async def main():
        async with connect(sys.argv[1], shop_client.ShopService) as client:
            print(await client.place(shop_client.Order(item="tea", quantity=2)))
            print([number async for number in client.count(3)])

    asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shop.py").write_text(textwrap.dedent(APP))
    return tmp_path


def test_a_colleague_without_the_source_gets_a_client(folder, tmp_path_factory):
    with serving(folder, "shop") as (address, _):
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        done = run(elsewhere, "generate", address, "-o", "shop_client.py")
        assert (done.returncode, done.stdout, done.stderr) == (0, "wrote shop_client.py\n", "")
        use = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(USE), address], cwd=elsewhere, capture_output=True, text=True
        )
    assert (use.stdout, use.stderr) == ("2 x tea\n[0, 1, 2]\n", "")


def test_every_source_gives_the_same_client(folder):
    assert run(folder, "compile", "shop", "-o", "shop.binpb").stdout == "wrote shop.binpb\n"
    with serving(folder, "shop") as (address, _):
        made = []
        for source in ("shop", "shop:shop", "shop.binpb", address):
            assert run(folder, "generate", source, "-o", "client.py").returncode == 0
            made.append((folder / "client.py").read_text())
            (folder / "client.py").unlink()
    assert len(set(made)) == 1
    assert "class SyncShopService" in made[0]


def test_check_tells_when_it_must_be_done_again(folder):
    assert run(folder, "generate", "shop", "-o", "client.py", "--check").stdout == "client.py is missing\n"
    assert run(folder, "generate", "shop", "-o", "client.py").returncode == 0
    assert run(folder, "generate", "shop", "-o", "client.py", "--check").returncode == 0
    assert run(folder, "generate", "shop", "-o", "client.py").stdout == "client.py is up to date\n"
    (folder / "shop.py").write_text(textwrap.dedent(APP).replace("def count", "def count_up"))
    changed = run(folder, "generate", "shop", "-o", "client.py", "--check")
    assert (changed.returncode, changed.stdout) == (1, "client.py differs\n")
    assert "run ephaptic-grpc generate shop -o client.py" in changed.stderr


def test_a_failed_run_leaves_the_old_file(folder):
    (folder / "client.py").write_text("old")
    (folder / "shop.py").write_text("from ephaptic_grpc import expose\n@expose\ndef f(a: 'Missing'): ...\n")
    assert run(folder, "generate", "shop", "-o", "client.py").returncode == 1
    assert run(folder, "compile", "shop", "-o", "client.binpb").returncode == 1
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["client.py", "shop.py"]
    assert (folder / "client.py").read_text() == "old"


def test_a_file_that_can_not_be_written_is_said(folder):
    (folder / "client.py").mkdir()
    done = run(folder, "generate", "shop", "-o", "client.py")
    assert done.returncode == 1
    assert done.stderr == "error: can't write client.py: Is a directory\n"


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["generate", "shop", "-o", "client.txt"], "the ending of client.txt says nothing: .py makes a Python", 2),
        (["generate", "nothing.binpb", "-o", "c.py"], "can't read nothing.binpb: No such file or directory", 1),
        (["generate", "localhost:1", "-o", "c.py"], "localhost:1: UNAVAILABLE: ", 1),
        (["generate", "localhost:1", "-o", "c.py", "--watch"], "--watch is for files", 2),
        (["generate", "shop", "-o", "c.py", "--watch", "--check"], "--watch is for files", 2),
        (["generate", "shop", "-o", "c.py", "--service", "shop.v1.Shop"], "(did you mean 'shop.v1.ShopService'?)", 1),
        (["compile", "shop", "-o", "shop.binpb", "--stubs"], "--stubs go into a folder", 2),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder, arguments, said, code):
    done = run(folder, *arguments)
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_reflection_is_on_unless_it_is_turned_off(folder):
    with serving(folder, "shop", "--no-reflection") as (address, _):
        done = run(folder, "generate", address, "-o", "client.py")
    said = f"{address} tells nothing of its services: serve with --reflection, or Server(reflection=True)"
    assert done.stderr == f"error: {said}\n"


def test_reflection_is_off_beyond_loopback_unless_it_is_asked_for(folder):
    for arguments, code in (([], 1), (["--reflection"], 0)):
        with serving(folder, "shop", "--host", "0.0.0.0", *arguments) as (address, _):
            port = address.rpartition(":")[2]
            assert run(folder, "generate", f"127.0.0.1:{port}", "-o", "client.py").returncode == code


@pytest.mark.once
@pytest.mark.parametrize("source", ["shop", "shop.binpb"])
def test_watch_writes_it_again_when_the_source_changes(folder, source):
    def change(old: str, new: str) -> None:
        (folder / "shop.py").write_text((folder / "shop.py").read_text().replace(old, new))
        if source.endswith(".binpb"):
            run(folder, "compile", "shop", "-o", source)

    change("", "")
    client = folder / "client.py"
    command = [sys.executable, "-m", "ephaptic_grpc", "generate", source, "-o", "client.py", "--watch"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        try:
            assert watching.stderr.readline().startswith("Watching ")
            eventually_sync(client.is_file, within=30)
            change("def count(", "def count_up(")
            eventually_sync(lambda: "count_up" in client.read_text(), within=30)
        finally:
            watching.terminate()
            watching.communicate()


def test_the_contract_can_be_looked_at(folder):
    assert run(folder, "generate", "shop", "-o", "contract.json").returncode == 0
    assert '"name": "place"' in (folder / "contract.json").read_text()


@pytest.mark.once  # the oldest Typer with the newest Click says nothing of arguments
def test_help_shows_what_a_source_is(folder: Path):
    said = " ".join(run(folder, "generate", "--help").stdout.replace("│", " ").split())
    assert "module:service, a descriptor set (.binpb), or host:port" in said
    assert "ephaptic-grpc generate localhost:50051 -o chat_client.py" in said
