"""Python stubs of .proto files, by grpcio-tools: what needs nothing of this project to call a service."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import grpc_tools
from grpc_tools import protoc

from ephaptic_grpc.codegen.proto import SHARED_FILES

_IMPORT = re.compile(r"^from (?P<package>[\w.]+) import (?P<module>\w+_pb2)\b", re.MULTILINE)


def python_stubs(protos: Mapping[str, str]) -> dict[str, str]:
    """``_pb2.py``, ``_pb2.pyi`` and ``_pb2_grpc.py`` of each service, by their paths.

    What protoc writes imports absolutely, so that it works in one place of ``sys.path`` only, and never beside a
    module named like its package. These import their neighbours: the modules of the shared files lie beside each
    service's, and a folder of stubs works wherever it is put, as a package or on the path.

    Raises:
        RuntimeError: protoc refused a file; what it said is on stderr.
    """
    services = [path for path in protos if path not in SHARED_FILES]
    with TemporaryDirectory() as name:
        folder = Path(name)
        for path, text in protos.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, "utf-8")
        for path in protos:
            _run_protoc(folder, path, with_service=path in services)
        shared = {made.name: made.read_text("utf-8") for made in (folder / SHARED_FILES[0]).parent.glob("*_pb2.py*")}
        stubs: dict[str, str] = {}
        for path in services:
            beside = PurePosixPath(path).parent
            for made in (folder / path).parent.glob(f"{PurePosixPath(path).stem}_pb2*"):
                stubs[str(beside / made.name)] = _IMPORT.sub(_relative, made.read_text("utf-8"))
            stubs |= {str(beside / made_name): text for made_name, text in shared.items()}
    return stubs


def _run_protoc(folder: Path, path: str, *, with_service: bool) -> None:
    well_known = str(Path(grpc_tools.__file__).parent / "_proto")
    arguments = ["protoc", f"-I{folder}", f"-I{well_known}", f"--python_out={folder}", f"--pyi_out={folder}"]
    if with_service:
        arguments.append(f"--grpc_python_out={folder}")
    if protoc.main([*arguments, path]):
        raise RuntimeError(f"protoc refused {path}")


def _relative(found: re.Match[str]) -> str:
    if found["package"].startswith("google."):
        return found[0]
    return f"from . import {found['module']}"
