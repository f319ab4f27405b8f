import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ephaptic_grpc import Service

pytest_plugins = ["ephaptic_grpc.testing"]

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Every asynchronous test runs on both event loops, on asyncio's in debug mode.

    uvloop 0.23 has one, too, but with grpc.aio in it, threads that call into the loop hang it or crash the process.
    """
    return "asyncio", {"use_uvloop": request.param == "uvloop", "debug": request.param == "asyncio"}


@pytest.fixture(scope="session")
def shapes() -> Service:
    """A service with every kind of value and of parameter."""
    service: Service = golden("shapes").shapes
    return service


@pytest.fixture(scope="session")
def shapes_client() -> ModuleType:
    """The module that was generated of it."""
    return golden("shapes_client")


def golden(name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, GOLDEN / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
