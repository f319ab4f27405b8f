"""The same functions as other libraries serve and call them, each in an environment of its own.

``bare.proto`` gives the messages where a library needs some. Every server is the fastest that a library documents, on
uvloop, and is called by that library's own Python client, or by the usual one where it has none.
"""

import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

PEERS: Final = {
    "ephaptic": ("ephaptic", "uvloop"),
    "pydantic_rpc": ("pydantic-rpc", "mcp<2", "uvloop"),
    "connectrpc": ("connectrpc", "protobuf", "uvicorn[standard]"),
    "sonora": ("sonora", "grpcio", "protobuf", "uvicorn[standard]"),
    "fastapi": ("fastapi", "httpx", "uvicorn[standard]"),
}
"""Each peer's module here, and what it needs to have installed."""

_FOLDER: Final = Path(__file__).parents[2] / ".venv-peers"


def python_of(peer: str) -> str:
    """The interpreter of a peer's environment, which is made where it is missing.

    Raises:
        RuntimeError: the packages can't be installed.
    """
    folder = _FOLDER / peer
    python, done = folder / "bin" / "python", folder / ".done"
    if not done.exists():
        print(f"installing {peer} (once) ...", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", *PEERS[peer]]
        if subprocess.run(command, check=False).returncode:  # noqa: S603  the program is ours
            raise RuntimeError(f"{peer} could not be installed")
        done.touch()
    return str(python)
