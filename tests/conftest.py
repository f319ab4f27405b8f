from typing import Any

import pytest

pytest_plugins = ["ephaptic_grpc.testing"]


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Every asynchronous test runs on both event loops."""
    return "asyncio", {"use_uvloop": request.param == "uvloop", "debug": True}
