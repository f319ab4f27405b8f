from typing import Any

import pytest

pytest_plugins = ["ephaptic_grpc.testing"]


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Every asynchronous test runs on both event loops, on asyncio's in debug mode.

    uvloop 0.23 has one, too, but with grpc.aio in it, threads that call into the loop hang it or crash the process.
    """
    return "asyncio", {"use_uvloop": request.param == "uvloop", "debug": request.param == "asyncio"}
