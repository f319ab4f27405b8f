"""The command ``ephaptic-grpc``: the only code here that writes files or starts processes."""

import asyncio
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final, NoReturn

import grpc
import typer
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest
from pydantic_core import from_json, to_json

from ephaptic_grpc.codegen.contract_json import contract_json
from ephaptic_grpc.codegen.envoy import Gateway, envoy_config
from ephaptic_grpc.codegen.openapi import is_openapi, openapi_json
from ephaptic_grpc.codegen.proto import described, proto_files
from ephaptic_grpc.codegen.python import python_module
from ephaptic_grpc.codegen.stubs import python_stubs
from ephaptic_grpc.codegen.typescript import typescript_module
from ephaptic_grpc.contract import Contract
from ephaptic_grpc.descriptors import descriptor_set
from ephaptic_grpc.errors import CallError
from ephaptic_grpc.names import check_service_name, rpc_path
from ephaptic_grpc.payload import MalformedPayloadError, pack, unpack
from ephaptic_grpc.server import is_loopback
from ephaptic_grpc.serving import Loop, NoLoopError, Serving, Web, serve_process
from ephaptic_grpc.sources import DESCRIPTOR_SET, SourceError, contract_of, is_address, services_of
from ephaptic_grpc.web import NoEnvoyError

_GRACE_SECONDS: Final = 5.0
_RELOADING_GRACE_SECONDS: Final = 0.2
_WEB_PORT: Final = 8080
_FAILED: Final = 1
_MISUSED: Final = 2
_INTERRUPTED: Final = 130

_EMITTERS: Final[dict[str, Callable[[Contract], str]]] = {
    ".py": python_module,
    ".ts": typescript_module,
    ".json": contract_json,
}
_ENDINGS: Final = (
    ".py makes a Python module, .ts a TypeScript one, openapi.json or .openapi.json an OpenAPI document, and any other "
    ".json shows the contract"
)

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


Check = Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 where the files differ.")]


Origins = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ORIGIN", help="A site whose pages may call, such as https://app.example.com; again for more."
    ),
]
Headers = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A header that such pages may send, besides authorization; again for more."),
]


@app.command()
def serve(
    modules: Modules,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 50051,
    reload: Annotated[bool, typer.Option("--reload", help="Start again when a Python file changes.")] = False,
    loop: Annotated[Loop, typer.Option(help="The event loop; auto is uvloop where it is installed.")] = Loop.auto,
    reflection: Annotated[
        bool | None,
        typer.Option(
            "--reflection/--no-reflection",
            help="Tell the services' contracts to whoever asks.",
            show_default="on a loopback address only",
        ),
    ] = None,
    web: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="[PORT]", help=f"For browsers: an Envoy in front ({_WEB_PORT})."),
    ] = None,
    static: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --web: the files of a page, served beside the functions.")
    ] = None,
    origin: Origins = None,
    header: Headers = None,
    without_envoy: Annotated[
        bool, typer.Option("--without-envoy", help="With --web: no Envoy, but uvicorn in this process.")
    ] = False,
) -> None:
    """Serve what modules expose.

    A module alone serves every service that is found in it: ephaptic-grpc serve chat
    """
    if web is None and (static or origin or header or without_envoy):
        _fail("--static, --origin, --header and --without-envoy are for --web", _MISUSED)
    serving = Serving(
        host=host,
        port=port,
        grace=_RELOADING_GRACE_SECONDS if reload else _GRACE_SECONDS,
        loop=loop,
        reflection=is_loopback(host) if reflection is None else reflection,
        web=None if web is None else Web(web, static, tuple(origin or ()), tuple(header or ()), without_envoy),
    )
    if not reload:
        _serve(modules, serving)
        return
    import watchfiles  # here, since nothing else needs it

    logging.getLogger("watchfiles").setLevel(logging.CRITICAL)
    _say(f"Watching {Path.cwd()} for changes. Ctrl-C stops.")
    watchfiles.run_process(
        Path.cwd(),
        target=_serve_again,
        args=(modules, serving),
        watch_filter=watchfiles.PythonFilter(),
        callback=lambda changes: _say(f"Changed: {', '.join(sorted(Path(path).name for _, path in changes))}"),
        sigint_timeout=10,
    )


@app.command()
def envoy(
    modules: Modules,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")],
    upstream: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="A server; again for each of several (127.0.0.1:50051)."),
    ] = None,
    origin: Origins = None,
    header: Headers = None,
    tls: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="CERT KEY", help="The files of a certificate and its key.")
    ] = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where Envoy listens.")] = "127.0.0.1:8080",
    check: Check = False,
) -> None:
    """Write an Envoy configuration that lets browsers call services, for production.

    \b
    ephaptic-grpc envoy chat --origin https://app.example.com --tls cert.pem key.pem --listen 0.0.0.0:443 -o envoy.yaml
    """
    try:
        gateway = Gateway(
            upstreams=tuple(upstream or ["127.0.0.1:50051"]),
            listen=listen,
            origins=tuple(origin or ()),
            headers=tuple(header or ()),
            tls=None if tls is None else (str(tls[0]), str(tls[1])),
        )
    except ValueError as error:
        _fail(str(error), _MISUSED)
    _save({output: envoy_config(services_of(modules), gateway).encode()}, f"envoy ... -o {output}", check=check)


@app.command("list")
def list_(modules: Modules) -> None:
    """List the functions that modules expose: their signatures, their paths, what they say of themselves."""
    for service in services_of(modules):
        print(service.name)
        for function in Contract.of(service).functions:
            print(f"  {described(function)}")
            print(f"      {rpc_path(service.name, function.name)}")
            if function.doc:
                print(f"      {function.doc.splitlines()[0]}")


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
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR|FILE.binpb", help="The folder, or the descriptor set, to write."),
    ],
    stubs: Annotated[bool, typer.Option("--stubs", help="Write Python stubs as well (by grpcio-tools).")] = False,
    check: Check = False,
) -> None:
    """Write services as protobuf: .proto files for any language's protoc, Python stubs, or one descriptor set.

    \b
    ephaptic-grpc compile chat -o stubs --stubs
    ephaptic-grpc compile chat -o chat.binpb
    """
    single = output.suffix == DESCRIPTOR_SET
    if single and stubs:
        _fail("--stubs go into a folder: leave it out, or name one with -o", _MISUSED)
    contracts = [Contract.of(service) for service in services_of(modules)]
    try:
        if single:
            files = {output: descriptor_set(contracts).SerializeToString(deterministic=True)}
        else:
            texts = proto_files(contracts)
            texts |= python_stubs(texts) if stubs else {}
            files = {output / path: text.encode() for path, text in texts.items()}
    except (ValueError, RuntimeError) as error:
        _fail(str(error))
    _save(files, f"compile {' '.join(modules)} -o {output}", check=check)


@app.command()
def generate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="What has the contract: module:service, a descriptor set (.binpb), or host:port."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help=f"{_ENDINGS}.")],
    service: Annotated[str | None, typer.Option(metavar="NAME", help="Which one, where there are several.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Write it again when the source changes.")] = False,
    check: Check = False,
) -> None:
    """Write a client of a service, from its contract alone.

    \b
    ephaptic-grpc generate chat:chat -o chat_client.py
    ephaptic-grpc generate localhost:50051 -o chat_client.py
    """
    if output.suffix not in _EMITTERS:
        _fail(f"the ending of {output} says nothing: {_ENDINGS}", _MISUSED)
    if watch and (check or is_address(source)):
        _fail("--watch is for files: not for --check, and not for a running server", _MISUSED)
    if not watch:
        _generate(source, output, service, check=check)
        return
    import watchfiles  # here, since nothing else needs it

    folder, changing = Path.cwd(), watchfiles.PythonFilter(ignore_paths=[output.absolute()])
    if source.endswith(DESCRIPTOR_SET):
        folder, changing = Path(source).parent, watchfiles.PythonFilter(extra_extensions=[DESCRIPTOR_SET])
    _say(f"Watching {folder.absolute()} for changes. Ctrl-C stops.")
    logging.getLogger("watchfiles").setLevel(logging.CRITICAL)
    watchfiles.run_process(folder, target=_generate_again, args=(source, output, service), watch_filter=changing)


def main() -> None:
    """Run the command line; of ``python -m ephaptic_grpc``, too."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever a terminal can't show
    try:
        app(_with_web_port(sys.argv[1:]), prog_name="ephaptic-grpc")
    except SourceError as error:
        _say(f"error: {error}")
        sys.exit(_MISUSED if error.misused else _FAILED)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _with_web_port(arguments: list[str]) -> list[str]:
    """The arguments, with the port that a bare ``--web`` means."""
    following = [*arguments[1:], ""]
    return [
        f"--web={_WEB_PORT}" if argument == "--web" and not after.isdecimal() else argument
        for argument, after in zip(arguments, following, strict=True)
    ]


def _generate(source: str, output: Path, service: str | None, *, check: bool = False) -> None:
    text = _emitter(output)(contract_of(source, service))
    _save({output: text.encode()}, f"generate {source} -o {output}", check=check)


def _emitter(output: Path) -> Callable[[Contract], str]:
    """What writes a file of that name."""
    return openapi_json if is_openapi(output.name) else _EMITTERS[output.suffix]


def _generate_again(source: str, output: Path, service: str | None) -> None:
    """Generate in a process of its own, which imports what has changed. What is wrong now may be right then."""
    try:
        _generate(source, output, service)
    except SourceError as error:
        _say(f"error: {error}")


def _serve_again(modules: list[str], serving: Serving) -> None:
    """Serve in a process of its own, until a file changes. What is wrong now may be right then."""
    try:
        _serve(modules, serving)
    except (SourceError, typer.Exit) as failure:
        if isinstance(failure, SourceError):
            _say(f"error: {failure}")
        _say("Waiting for a change.")
        sys.exit(_FAILED)


def _serve(modules: list[str], serving: Serving) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    services = services_of(modules)
    try:
        serve_process(services, serving)
    except OSError as error:
        _fail(error.strerror or str(error))
    except (ValueError, NoLoopError, NoEnvoyError) as error:
        _fail(str(error))


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


def _save(files: Mapping[Path, bytes], command: str, *, check: bool) -> None:
    """Write the files that differ from what is there; or only say which they are, and fail."""
    differing = [path for path, data in files.items() if not path.is_file() or path.read_bytes() != data]
    if check:
        for path in differing:
            print(f"{path} {'differs' if path.exists() else 'is missing'}")
        if differing:
            _fail(f"{len(differing)} of {len(files)} files are not what the code says: run ephaptic-grpc {command}")
        return
    for path in differing:
        try:
            _write(path, files[path])
        except OSError as error:
            _fail(f"can't write {path}: {error.strerror}")
        print(f"wrote {path}")
    if not differing:
        print(f"{os.path.commonpath(files)} is up to date")


def _write(path: Path, data: bytes) -> None:
    """Write a whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fail(text: str, code: int = _FAILED) -> NoReturn:
    _say(f"error: {text}")
    raise typer.Exit(code)
