"""The command ``ephaptic-grpc``: with ``contract_commands``, the only code that writes files or starts processes."""

import asyncio
import io
import logging
import multiprocessing
import os
import signal
import sys
import threading
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from ephaptic_grpc.addresses import is_loopback
from ephaptic_grpc.calling import arguments_of, metadata_of, print_items, told
from ephaptic_grpc.codegen.envoy import Gateway, envoy_config
from ephaptic_grpc.codegen.envoy_tls import SYSTEM_ROOTS, UpstreamTLS
from ephaptic_grpc.codegen.proto import described
from ephaptic_grpc.contract import Contract
from ephaptic_grpc.contract_commands import (
    CaCert,
    Cert,
    CheckFiles,
    Key,
    Modules,
    Tls,
    check,
    client_tls,
    compile_,
    generate,
)
from ephaptic_grpc.errors import CallError, ExposeError
from ephaptic_grpc.handshake import ChannelSecurity
from ephaptic_grpc.names import check_service_name, rpc_path
from ephaptic_grpc.options import Options
from ephaptic_grpc.origins import check_pages
from ephaptic_grpc.output import FAILED, MISUSED, fail, save, say
from ephaptic_grpc.payload import MalformedPayloadError, pack
from ephaptic_grpc.records import RecordFormatter
from ephaptic_grpc.serving import Loop, NoLoopError, Serving, Web, serve_process
from ephaptic_grpc.sources import SourceError, services_of
from ephaptic_grpc.targets import check_target
from ephaptic_grpc.tls import TLS
from ephaptic_grpc.web import NoEnvoyError

_GRACE_SECONDS: Final = 5.0
_RELOADING_GRACE_SECONDS: Final = 0.2  # who changes a file waits for it
_WEB_PORT: Final = 8080
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
        bool,
        typer.Option(
            "--version", callback=lambda asked: asked and _version(), is_eager=True, help="Say which release this is."
        ),
    ] = False,
) -> None:
    pass


def _version() -> NoReturn:
    print(version("ephaptic-grpc"))
    raise typer.Exit


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
    grace: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="What calls in flight have to finish when it stops.",
            show_default=f"{_GRACE_SECONDS:g}; with --reload {_RELOADING_GRACE_SECONDS:g}",
        ),
    ] = None,
    reload: Annotated[bool, typer.Option("--reload", help="Start again when a Python file changes.")] = False,
    loop: Annotated[Loop, typer.Option(help="The event loop; auto is uvloop where it is installed.")] = Loop.auto,
    reflection: Annotated[
        bool | None,
        typer.Option(
            "--reflection/--no-reflection",
            help="Tell callers the contract when they ask: for generate, check, grpcurl.",
            show_default="on a loopback address only",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The server's certificate and its chain: speak TLS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The key of the certificate.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Serve only who has a certificate of these authorities.")
    ] = None,
    web: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="[PORT]", help=f"Serve browsers, too, by an Envoy ({_WEB_PORT})."),
    ] = None,
    static: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --web: the files of a page, served beside the functions.")
    ] = None,
    origin: Origins = None,
    header: Headers = None,
    without_envoy: Annotated[
        bool, typer.Option("--without-envoy", help="With --web: no Envoy, but uvicorn in this process.")
    ] = False,
    grpc_experiments: Annotated[
        bool, typer.Option("--grpc-experiments", help="Unary calls a tenth faster, by experiments of gRPC's own.")
    ] = False,
) -> None:
    """Serve what modules expose.

    A module alone serves every service that is found in it: ephaptic-grpc serve chat
    """
    if grpc_experiments:
        _use_experiments()
    if web is None and (static or origin or header or without_envoy):
        fail("--static, --origin, --header and --without-envoy are for --web", MISUSED)
    if static is not None and not static.is_dir():
        fail(f"--static {static}: there is no such folder; name the one that has the page's index.html", MISUSED)
    if (tls_cert is None) != (tls_key is None) or (client_ca and not tls_cert):
        fail("--tls-cert and --tls-key go together, and --client-ca with both", MISUSED)
    try:
        check_pages(origin or (), header or ())
    except ValueError as error:
        fail(str(error), MISUSED)
    serving = Serving(
        host=host,
        port=port,
        grace=grace if grace is not None else _RELOADING_GRACE_SECONDS if reload else _GRACE_SECONDS,
        loop=loop,
        reflection=is_loopback(host) if reflection is None else reflection,
        tls=None if tls_cert is None or tls_key is None else TLS(tls_cert, tls_key, client_ca),
        web=None if web is None else Web(web, static, tuple(origin or ()), tuple(header or ()), without_envoy),
    )
    if not reload:
        _serve(modules, serving)
        return
    import watchfiles  # here, since nothing else needs it

    logging.getLogger("watchfiles").setLevel(logging.CRITICAL)
    say(f"Watching {Path.cwd()} for changes. Ctrl-C stops.")
    code, page = watchfiles.PythonFilter(), None if static is None else static.resolve()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells have ignored behind '&'
    watchfiles.run_process(
        Path.cwd(),
        *([] if page is None else [page]),
        target=_serve_again,
        args=(modules, serving),
        watch_filter=lambda change, path: code(change, path) or (page is not None and page in Path(path).parents),
        callback=lambda changes: say(f"Changed: {', '.join(sorted(Path(path).name for _, path in changes))}"),
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
    client_ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --tls: let only in who has a certificate of these authorities."),
    ] = None,
    upstream_tls: Annotated[
        bool, typer.Option("--upstream-tls", help="The servers speak TLS; the options below mean it, too.")
    ] = False,
    upstream_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The authorities that may have issued their certificates.", show_default=SYSTEM_ROOTS
        ),
    ] = None,
    upstream_cert: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="CERT KEY", help="Envoy's own certificate and key, for servers that ask for one."),
    ] = None,
    upstream_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What their certificates are for.", show_default="the hosts of --upstream"),
    ] = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where Envoy listens.")] = "127.0.0.1:8080",
    check: CheckFiles = False,
) -> None:
    """Write an Envoy configuration that lets browsers call services, for production.

    \b
    ephaptic-grpc envoy chat --origin https://app.example.com --tls cert.pem key.pem --listen 0.0.0.0:443 -o envoy.yaml
    """
    if client_ca and not tls:
        fail("--client-ca goes with --tls", MISUSED)
    servers = UpstreamTLS(ca=upstream_ca or SYSTEM_ROOTS, identity=upstream_cert, name=upstream_name)
    try:
        gateway = Gateway(
            upstreams=tuple(upstream or ["127.0.0.1:50051"]),
            listen=listen,
            origins=tuple(origin or ()),
            headers=tuple(header or ()),
            tls=None if tls is None else TLS(*tls, client_ca),
            upstream_tls=servers if upstream_tls or upstream_ca or upstream_cert or upstream_name else None,
        )
    except ValueError as error:
        fail(str(error), MISUSED)
    save({output: envoy_config(services_of(modules), gateway).encode()}, f"envoy ... -o {output}", check=check)


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
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Where the server is, such as localhost:50051.")],
    method: Annotated[
        str, typer.Argument(metavar="METHOD", help="Service and function, such as chat.v1.ChatService/ai_response.")
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[JSON | - | name=text name:=json ...]",
            help="One JSON object or array ('-' reads it from stdin), or arguments by name.",
        ),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header", "-H", metavar="'NAME: VALUE'", help="Metadata of the call, such as a token; again for more."
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="The call's deadline.", show_default="none"),
    ] = None,
    tls: Tls = False,
    cacert: CaCert = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Call a function of a server that runs: a value is printed as JSON, a stream as JSON Lines as items arrive.

    \b
    ephaptic-grpc call localhost:50051 chat.v1.ChatService/ai_response message="What is a generator?"
    ephaptic-grpc call localhost:50051 chat.v1.ChatService/system_load '{"interval": 0.5}'
    ephaptic-grpc call localhost:50051 shop.v1.ShopService/orders -H "authorization: Bearer $TOKEN" --timeout 5
    """
    service, _, function = method.rpartition("/" if "/" in method else ".")
    try:
        check_service_name(service.removeprefix("/"))
    except ValueError:
        fail(f"a method is a service and a function, such as chat.v1.ChatService/ai_response, not {method!r}", MISUSED)
    try:
        check_target(target)
        options = Options.of(timeout, metadata_of(header or []))
        given = [sys.stdin.buffer.read().decode(errors="surrogateescape")] if arguments == ["-"] else arguments or []
        request = pack(arguments_of(given))
    except ValueError as error:
        fail(str(error), MISUSED)
    try:
        security = ChannelSecurity(target, client_tls(tls, cacert, cert, key) or False, None)
    except OSError as error:
        fail(error.strerror or str(error))
    except ValueError as error:
        fail(str(error))
    try:
        asyncio.run(print_items(security, rpc_path(service.removeprefix("/"), function), request, options))
    except CallError as error:
        fail(told(error, given))
    except MalformedPayloadError as error:
        fail(f"{method} is not served by ephaptic_grpc: {error}")
    except BrokenPipeError:  # of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app.command("compile")(compile_)
app.command("generate")(generate)
app.command("check")(check)


def main() -> None:
    """Run the command line; of ``python -m ephaptic_grpc``, too."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever a terminal can't show
    try:
        try:
            app(_with_web_port(sys.argv[1:]), prog_name="ephaptic-grpc")
        finally:
            sys.stdout.flush()  # while what goes wrong can still be told
    except OSError as error:  # of standard output: a full disk, say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be written to it
        if not isinstance(error, BrokenPipeError):  # of `| head`
            say(f"error: {error.filename or 'what is printed'}: {error.strerror}")
        sys.exit(FAILED)
    except SourceError as error:
        say(f"error: {error}")
        sys.exit(MISUSED if error.misused else FAILED)
    except ExposeError as error:
        say(f"error: {error}")
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _with_web_port(arguments: list[str]) -> list[str]:
    """The arguments, with the port that a bare ``--web`` means."""
    return [
        f"--web={_WEB_PORT}" if argument == "--web" and not after.isdecimal() else argument
        for argument, after in pairwise([*arguments, ""])
    ]


def _use_experiments() -> None:
    """Start again where gRPC's experiments are not chosen yet: it reads them when it is imported, which it has been."""
    chosen = os.environ.get("GRPC_EXPERIMENTS", "")
    if _EXPERIMENTS not in chosen:
        os.environ["GRPC_EXPERIMENTS"] = f"{chosen},{_EXPERIMENTS}" if chosen else _EXPERIMENTS
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  this program itself


def _serve_again(modules: list[str], serving: Serving) -> None:
    """Serve in a process of its own, until a file changes. What is wrong now may be right then."""
    threading.Thread(target=_end_with_watcher, daemon=True).start()
    try:
        _serve(modules, serving)
    except (SourceError, typer.Exit) as failure:
        if isinstance(failure, SourceError):
            say(f"error: {failure}")
        say("Waiting for a change.")
        sys.exit(FAILED)


def _end_with_watcher() -> None:
    """End this process when the one that watches files has ended, be it by SIGKILL: else it would keep the port."""
    watcher = multiprocessing.parent_process()
    if watcher is not None:
        watcher.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _serve(modules: list[str], serving: Serving) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(RecordFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    services = services_of(modules)
    try:
        serve_process(services, serving)
    except OSError as error:
        fail(error.strerror or str(error))
    except (ValueError, NoLoopError, NoEnvoyError) as error:
        fail(str(error))
