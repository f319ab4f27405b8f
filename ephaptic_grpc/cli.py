"""The command ``ephaptic-grpc``: the only code here that writes files or starts processes."""

import asyncio
import importlib
import importlib.util
import io
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import grpc
import typer
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest
from pydantic_core import from_json, to_json

from ephaptic_grpc.codegen.proto import described, proto_files
from ephaptic_grpc.codegen.stubs import python_stubs
from ephaptic_grpc.errors import CallError, ExposeError
from ephaptic_grpc.names import check_service_name, rpc_path, suggestion
from ephaptic_grpc.payload import MalformedPayloadError, pack, unpack
from ephaptic_grpc.server import Server
from ephaptic_grpc.service import Service, default_service

_GRACE_SECONDS: Final = 5.0
_RELOADING_GRACE_SECONDS: Final = 0.2
_LEAVING_SECONDS: Final = 1.0
_FAILED: Final = 1
_MISUSED: Final = 2
_INTERRUPTED: Final = 130
_EXPERIMENTS: Final = "-event_engine_listener,-event_engine_client"

app = typer.Typer(
    name="ephaptic-grpc",
    help="Call Python functions, and stream from Python generators, over gRPC.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=lambda asked: asked and _version(), is_eager=True, help="Say which.")
    ] = False,
) -> None:
    pass


def _version() -> NoReturn:
    print(version("ephaptic-grpc"))
    raise typer.Exit


Modules = Annotated[
    list[str],
    typer.Argument(metavar="MODULE[:SERVICE]...", help="What to import, such as 'chat' or 'app.rpc:chat'."),
]


class Loop(StrEnum):
    """An event loop."""

    auto = "auto"
    asyncio = "asyncio"
    uvloop = "uvloop"


@app.command()
def serve(
    modules: Modules,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 50051,
    reload: Annotated[bool, typer.Option("--reload", help="Start again when a Python file changes.")] = False,
    loop: Annotated[Loop, typer.Option(help="The event loop; auto is uvloop where it is installed.")] = Loop.auto,
    grpc_experiments: Annotated[
        bool, typer.Option("--grpc-experiments", help="Unary calls a tenth faster, by experiments of gRPC's own.")
    ] = False,
) -> None:
    """Serve what modules expose.

    A module alone serves every service that is found in it: ephaptic-grpc serve chat
    """
    if grpc_experiments:
        _use_experiments()
    if not reload:
        _serve(modules, host, port, loop, _GRACE_SECONDS)
        return
    import watchfiles  # here, since nothing else needs it

    logging.getLogger("watchfiles").setLevel(logging.CRITICAL)
    _say(f"Watching {Path.cwd()} for changes. Ctrl-C stops.")
    watchfiles.run_process(
        Path.cwd(),
        target=_serve_again,
        args=(modules, host, port, loop),
        watch_filter=watchfiles.PythonFilter(),
        callback=lambda changes: _say(f"Changed: {', '.join(sorted(Path(path).name for _, path in changes))}"),
        sigint_timeout=10,
    )


@app.command("list")
def list_(modules: Modules) -> None:
    """List the functions that modules expose: their signatures, their paths, what they say of themselves."""
    for service in _load(modules):
        print(service.name)
        for procedure in service.procedures.values():
            print(f"  {described(procedure)}")
            print(f"      {procedure.path}")
            if procedure.doc:
                print(f"      {procedure.doc.splitlines()[0]}")


@app.command()
def call(
    target: Annotated[str, typer.Argument(help="Where the server is, such as localhost:50051.")],
    method: Annotated[str, typer.Argument(help="Service and function, such as chat.v1.ChatService/ai_response.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[JSON | name=text name:=json ...]", help="One JSON object or array, or arguments by name."
        ),
    ] = None,
) -> None:
    """Call a function of a server that runs: a value is printed as JSON, a stream as JSON Lines as items arrive.

    \b
    ephaptic-grpc call localhost:50051 chat.v1.ChatService/ai_response message="What is a generator?"
    ephaptic-grpc call localhost:50051 chat.v1.ChatService/system_load '{"interval": 0.5}'
    """
    service, _, function = method.rpartition("/" if "/" in method else ".")
    try:
        check_service_name(service.removeprefix("/"))
    except ValueError:
        _fail(
            f"a method is a service and a function, such as chat.v1.ChatService/ai_response, not {method!r}", _MISUSED
        )
    if not re.fullmatch(r"(?!\w+://).+:.+", target):
        _fail(f"a target is host:port, such as localhost:50051, not {target!r}", _MISUSED)
    request = pack(_arguments(arguments or []))
    try:
        asyncio.run(_print_items(target, rpc_path(service.removeprefix("/"), function), request))
    except CallError as error:
        _fail(_told(error, target, method))
    except MalformedPayloadError as error:
        _fail(f"{method} is not served by ephaptic_grpc: {error}")
    except BrokenPipeError:  # of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.command("compile")
def compile_(
    modules: Modules,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write to.")],
    stubs: Annotated[bool, typer.Option("--stubs", help="Write Python stubs as well (by grpcio-tools).")] = False,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 where the files differ.")] = False,
) -> None:
    """Write the .proto files of services, for any language's protoc, and Python stubs if asked for.

    ephaptic-grpc compile chat -o stubs --stubs
    """
    services = _load(modules)
    try:
        files = proto_files(services)
        if stubs:
            files |= python_stubs(files)
    except (ValueError, RuntimeError) as error:
        _fail(str(error))
    differing = [path for path, text in files.items() if _read(output / path) != text]
    if check:
        for path in differing:
            print(f"{output / path} {'differs' if (output / path).exists() else 'is missing'}")
        if differing:
            _fail(f"{len(differing)} of {len(files)} files are not what the code says: run compile without --check")
        return
    for path in differing:
        try:
            _write(output / path, files[path])
        except OSError as error:
            _fail(f"can't write {output / path}: {error.strerror}")
        print(f"wrote {output / path}")
    if not differing:
        print(f"{output} is up to date")


def main() -> None:
    """Run the command line; of ``python -m ephaptic_grpc``, too."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever a terminal can't show
    try:
        app(prog_name="ephaptic-grpc")
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _use_experiments() -> None:
    """Start again where gRPC's experiments are not chosen yet: it reads them when it is imported, which it has been."""
    chosen = os.environ.get("GRPC_EXPERIMENTS", "")
    if _EXPERIMENTS not in chosen:
        os.environ["GRPC_EXPERIMENTS"] = f"{chosen},{_EXPERIMENTS}" if chosen else _EXPERIMENTS
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def _serve_again(modules: list[str], host: str, port: int, loop: Loop) -> None:
    """Serve in a process of its own, until a file changes. What is wrong now may be right then."""
    try:
        _serve(modules, host, port, loop, _RELOADING_GRACE_SECONDS)
    except typer.Exit as failure:
        _say("Waiting for a change.")
        sys.exit(failure.exit_code)


def _serve(modules: list[str], host: str, port: int, loop: Loop, grace: float) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    services = _load(modules)
    try:
        server = Server(*services, host=host, port=port, grace=grace)
        with asyncio.Runner(loop_factory=_loop_factory(loop)) as runner:
            runner.run(_run(server))
    except OSError as error:
        _fail(error.strerror or str(error))
    except ValueError as error:
        _fail(str(error))


async def _run(server: Server) -> None:
    async with server:
        loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        for service in server.services:
            _say(f"Serving {service.name}: {', '.join(service.procedures) or 'no functions'}")
        _say(f"on {server.address} ({loop}). Ctrl-C stops.")
        await server.wait()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left and (await asyncio.wait(left, timeout=_LEAVING_SECONDS))[1]:
        # What ignores its cancellation has been logged; asyncio would wait for it for ever.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


def _loop_factory(loop: Loop) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if loop is Loop.asyncio or (loop is Loop.auto and importlib.util.find_spec("uvloop") is None):
        return None
    try:
        return importlib.import_module("uvloop").new_event_loop  # type: ignore[no-any-return]
    except ImportError:
        _fail("uvloop is not installed: it has no wheel for this platform, or was left out. Use --loop asyncio")


def _load(modules: list[str]) -> list[Service]:
    """The services that ``MODULE`` or ``MODULE:SERVICE`` name, each once."""
    if "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    services: list[Service] = []
    for target in modules:
        name, _, attribute = target.partition(":")
        module = _import(name)
        found = {key: value for key, value in vars(module).items() if isinstance(value, Service)}
        if attribute and attribute not in found:
            _fail(f"{name} has no service {attribute!r}{suggestion(attribute, found)}")
        chosen = [found[attribute]] if attribute else [*found.values(), default_service]
        services += [service for service in dict.fromkeys(chosen) if service not in services]
    exposing = [service for service in services if service is not default_service or service.exposes_anything]
    if not exposing:
        _fail(f"{', '.join(modules)} exposes nothing: put @expose on a function, or make a Service")
    try:
        for service in exposing:
            _ = service.procedures  # whose types may not have been defined when they were exposed
    except ExposeError as error:
        _fail(str(error))
    return exposing


def _import(name: str) -> Any:
    if not name or name.startswith("."):
        _fail(f"{name!r} is no module: name one, such as 'chat' or 'app.rpc:chat'", _MISUSED)
    if name.endswith(".py") or os.sep in name:
        dotted = ".".join(Path(name).with_suffix("").parts)
        _fail(f"{name!r} is a file: name the module, such as {dotted!r}", _MISUSED)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            _fail(f"there is no module {name!r} here ({Path.cwd()}) or among the installed ones")
        _fail(_import_failure(name, error))  # the module is there, and imports one that isn't
    except ExposeError as error:
        _fail(str(error))
    except Exception as error:
        _fail(_import_failure(name, error))


def _import_failure(name: str, error: Exception) -> str:
    """Why a module can't be imported: the traceback from its own first frame on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(
        (__file__, importlib.__file__, "<frozen")
    ):
        frames = frames.tb_next
    lines = traceback.format_exception(type(error), error.with_traceback(frames), frames)
    return f"{name} can't be imported:\n{''.join(lines).rstrip()}"


def _arguments(given: list[str]) -> bytes:
    """The JSON of the arguments on a command line."""
    if any("\ud800" <= character <= "\udfff" for character in "".join(given)):
        _fail("the arguments are not UTF-8", _MISUSED)
    if len(given) == 1 and given[0].lstrip()[:1] in ("{", "["):
        try:
            from_json(given[0])
        except ValueError as error:
            _fail(f"bad JSON: {error}", _MISUSED)
        return given[0].encode()
    named = {}
    for argument in given:
        found = re.fullmatch(r"([^\W\d]\w*)(:?=)(.*)", argument, re.DOTALL)
        if found is None:
            _fail(f"{argument!r} is neither name=text, name:=json, nor a JSON object or array", _MISUSED)
        name, kind, text = found.groups()
        try:
            named[name] = from_json(text) if kind == ":=" else text
        except ValueError:
            _fail(f"{argument!r} is not JSON after ':='; for text write '{name}={text}'", _MISUSED)
    return to_json(named)


async def _print_items(target: str, path: str, request: bytes) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path)
        try:
            async for message in method(request):
                sys.stdout.buffer.write(unpack(message) + b"\n")
                sys.stdout.buffer.flush()
        except grpc.RpcError as error:
            raise CallError.of(error) from None


def _told(error: CallError, target: str, method: str) -> str:
    """What is said of a call that failed, with its details below."""
    if error.code is grpc.StatusCode.UNIMPLEMENTED:
        return f"UNIMPLEMENTED: {target} has no {method}"
    lines = [str(error)]
    for detail in error.details:
        if isinstance(detail, BadRequest):
            lines[0] = f"{error.code.name}: {error.message.partition(':')[0]}"
            lines += [f"  {violation.field}: {violation.description}" for violation in detail.field_violations]
        elif isinstance(detail, Message):
            lines.append(f"  {detail.DESCRIPTOR.full_name}: {' '.join(str(detail).split())}")
        else:
            lines.append(f"  {to_json(detail).decode()}")
    return "\n".join(lines)


def _read(path: Path) -> str | None:
    return path.read_bytes().decode("utf-8", "replace") if path.is_file() else None


def _write(path: Path, text: str) -> None:
    """Write a whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, "utf-8", newline="\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fail(text: str, code: int = _FAILED) -> NoReturn:
    _say(f"error: {text}")
    raise typer.Exit(code)
