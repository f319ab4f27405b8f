"""What the package's own code never does: look something up by a name from the wire, or run what it read."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ephaptic_grpc"

REFLECTIVE = {"getattr", "setattr", "delattr", "hasattr", "vars", "globals", "locals", "attrgetter", "methodcaller"}
RUNNING = {"eval", "exec", "compile", "__import__", "import_module", "run_path", "run_module", "input", "breakpoint"}
ATTRIBUTES = {"__dict__", "__getattribute__", "__builtins__", "__subclasses__", "f_locals", "f_globals"}
MODULES = {"code", "dill", "jsonpickle", "marshal", "pickle", "shelve", "yaml"}

ALLOWED = {
    "asgi.py": {"getattr(parent, 'openapi', None)": "a fixed name, of the author's own app"},
    "codegen/python.py": {
        "hasattr(int if kind == 'IntEnum' else str, member)": "asks only, of a builtin type, when text is generated"
    },
    "declared.py": {
        "vars(client)": "a client keeps the functions that its class declares",
        "vars(base)": "the methods of a generated client's class, all of them",
    },
    "errors.py": {
        "getattr(error_details_pb2, name)": "the names of protobuf's own file, when this is imported",
        "vars(self)": "all of it, for copying",
    },
    "generated.py": {"getattr(self, name)": "the fields of a generated model"},
    "handshake.py": {"getattr(failed, '__notes__', ())": "a fixed name, of an error of the client's own"},
    "impossible.py": {
        "getattr(function.func, '__module__', None)": "a fixed name, of a constraint",
        "getattr(function, '__qualname__', '')": "a fixed name, of a constraint",
    },
    "limits.py": {
        "getattr(function, field.name)": "the fields of a dataclass, all of them",
        "getattr(self, name)": "fixed names, to check what a program gives",
    },
    "listener.py": {"getattr(task.get_coro(), '__qualname__', '')": "a fixed name, of gRPC's own task"},
    "mirrored.py": {"vars(cls)": "whether a class of an exposed function's types is complete"},
    "pipe.py": {
        "getattr(items, 'aclose', None)": "a fixed name, of what the function gave",
        "getattr(items, 'close', None)": "a fixed name, of what the function gave",
        "getattr(items, 'athrow', None)": "a fixed name, of what the function gave",
        "hasattr(items, '__aiter__')": "a fixed name, of what the function gave",
    },
    "procedure.py": {
        "getattr(innermost, '__globals__', {})": "a fixed name, of an exposed function",
        "getattr(innermost, '__globals__', None)": "a fixed name, of an exposed function",
        "getattr(innermost, '__type_params__', ())": "a fixed name, of an exposed function",
        "getattr(function, '__wrapped__', None)": "a fixed name, of an exposed function",
        "getattr(function, '__func__', None)": "a fixed name, of an exposed function",
        "hasattr(annotation, '__value__')": "a fixed name, of an annotation",
        "frame.f_globals": "of the module that exposes, to compare",
    },
    "reflection.py": {"getattr(self._pool, name)": "what grpcio-reflection's own code asks a pool for"},
    "remote.py": {"vars(self)": "a client keeps the functions that its own program has asked for"},
    "service.py": {
        "getattr(target, 'func', target)": "a fixed name, of an exposed function",
        "getattr(target, '__code__', None)": "a fixed name, of an exposed function",
        "getattr(target, '__qualname__', None)": "a fixed name, of an exposed function",
        "frame.f_locals": "of the function that exposes: what its annotations name",
        "hasattr(function, '__wrapped__')": "a fixed name, of an exposed function",
        "vars(given)": "all of a module, to say which service was meant",
    },
    "serving.py": {"importlib.import_module('uvloop')": "a fixed name"},
    "sources.py": {
        "importlib.import_module(name)": "the module that the command line names",
        "getattr(sys.modules.get(module), service, None)": "a name of the command line, to say what would be right",
        "vars(module)": "all of it, to find services by their type",
    },
    "streams.py": {"getattr(self, '_loop', None)": "a fixed name, in a finalizer of what may be half made"},
    "sync_client.py": {"hasattr(self, '_call')": "a fixed name, in a finalizer of what may be half made"},
}
"""Every look-up by a name, with the reason why no caller chooses that name."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if not path.name.endswith("_pb2.py"):
            yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())


def looked_up(tree: ast.Module) -> set[str]:
    """What looks something up by a name, or runs a text, as source."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", None))
            if name in REFLECTIVE | RUNNING and ast.unparse(node.func) != "re.compile":
                found.add(ast.unparse(node))
        elif isinstance(node, ast.Name) and node.id in RUNNING - {"compile", "input"}:
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
            found.add(ast.unparse(node))
    return found


@pytest.mark.once
def test_nothing_is_looked_up_by_a_name_from_the_wire():
    found = {name: looked_up(tree) for name, tree in modules()}
    allowed = {name: set(reasons) for name, reasons in ALLOWED.items()}
    assert {name: calls for name, calls in found.items() if calls} == allowed


@pytest.mark.once
def test_no_module_that_runs_what_it_reads_is_imported():
    for name, tree in modules():
        for node in ast.walk(tree):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not MODULES & {one.partition(".")[0] for one in imported}, name


@pytest.mark.once
@pytest.mark.parametrize(
    "code", ["getattr(a, b)", "eval(x)", "x = eval", "builtins.exec(x)", "a.__dict__[b]", "vars(a)[b]"]
)
def test_a_new_one_would_be_found(code):
    assert looked_up(ast.parse(code))


@pytest.mark.once
def test_every_exception_from_the_rules_of_security_has_its_reason():
    """``# noqa: S603  the program is ours``"""
    for folder in ("ephaptic_grpc", "bench", "docs", "examples", "soak"):
        for path in (ROOT / folder).rglob("*.py"):
            for line in path.read_text().splitlines():
                if found := re.search(r"# noqa: (?P<rules>[A-Z]+\d+(?:, [A-Z]+\d+)*)(?P<reason>.*)", line):
                    secure = any(re.fullmatch(r"S\d+", rule) for rule in found["rules"].split(", "))
                    assert not secure or found["reason"].startswith("  "), f"{path}: {line.strip()}"
                assert "# noqa" not in line or found, f"{path}: every rule is let off: {line.strip()}"


@pytest.mark.once
def test_what_the_docs_name_is_there():
    """Each line of docs/security.md has its test."""
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", (ROOT / "docs/security.md").read_text())
    assert len(named) > 30
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(), f"{file}::{test}"
