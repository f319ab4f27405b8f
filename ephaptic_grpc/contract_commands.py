"""The commands about contracts: what is made of one, and what sets two apart."""

import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from ephaptic_grpc.codegen.contract_json import contract_json
from ephaptic_grpc.codegen.openapi import is_openapi, openapi_json
from ephaptic_grpc.codegen.proto import proto_files
from ephaptic_grpc.codegen.python import python_module
from ephaptic_grpc.codegen.stubs import python_stubs
from ephaptic_grpc.codegen.typescript import typescript_module
from ephaptic_grpc.contract import Contract
from ephaptic_grpc.descriptors import descriptor_set
from ephaptic_grpc.differences import Severity
from ephaptic_grpc.evolution import evolution
from ephaptic_grpc.output import FAILED, MISUSED, fail, save, say
from ephaptic_grpc.report import findings_json, report
from ephaptic_grpc.sources import DESCRIPTOR_SET, SourceError, contract_of, is_address, services_of

_UNCLEAR: Final = 2
_WIDTH: Final = 100
"""Of a report, in characters: in a log, and at most."""

_EMITTERS: Final[dict[str, Callable[[Contract], str]]] = {
    ".py": python_module,
    ".ts": typescript_module,
    ".json": contract_json,
}
_ENDINGS: Final = (
    ".py makes a Python module, .ts a TypeScript one, openapi.json or .openapi.json an OpenAPI document, and any other "
    ".json shows the contract"
)

Modules = Annotated[
    list[str],
    typer.Argument(metavar="MODULE[:SERVICE]...", help="What to import, such as 'chat' or 'app.rpc:chat'."),
]

CheckFiles = Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 where the files differ.")]

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="What has the contract: module:service, a descriptor set (.binpb), or host:port."
    ),
]
ServiceName = Annotated[
    str | None, typer.Option("--service", metavar="NAME", help="Which one, where there are several.")
]


def compile_(
    modules: Modules,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR|FILE.binpb", help="The folder, or the descriptor set, to write."),
    ],
    stubs: Annotated[bool, typer.Option("--stubs", help="Write Python stubs as well (by grpcio-tools).")] = False,
    check: CheckFiles = False,
) -> None:
    """Write services as protobuf: .proto files for any language's protoc, Python stubs, or one descriptor set.

    \b
    ephaptic-grpc compile chat -o stubs --stubs
    ephaptic-grpc compile chat -o chat.binpb
    """
    single = output.suffix == DESCRIPTOR_SET
    if single and stubs:
        fail("--stubs go into a folder: leave it out, or name one with -o", MISUSED)
    contracts = [Contract.of(service) for service in services_of(modules)]
    try:
        if single:
            files = {output: descriptor_set(contracts).SerializeToString(deterministic=True)}
        else:
            texts = proto_files(contracts)
            texts |= python_stubs(texts) if stubs else {}
            files = {output / path: text.encode() for path, text in texts.items()}
    except (ValueError, RuntimeError) as error:
        fail(str(error))
    save(files, f"compile {' '.join(modules)} -o {output}", check=check)


def generate(
    source: Source,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help=f"{_ENDINGS}.")],
    service: ServiceName = None,
    watch: Annotated[bool, typer.Option("--watch", help="Write it again when the source changes.")] = False,
    check: CheckFiles = False,
) -> None:
    """Write a client of a service, from its contract alone.

    \b
    ephaptic-grpc generate chat:chat -o chat_client.py
    ephaptic-grpc generate localhost:50051 -o chat_client.py
    """
    if output.suffix not in _EMITTERS:
        fail(f"the ending of {output} says nothing: {_ENDINGS}", MISUSED)
    if watch and (check or is_address(source)):
        fail("--watch is for files: not for --check, and not for a running server", MISUSED)
    if not watch:
        _generate(source, output, service, check=check)
        return
    import watchfiles  # here, since nothing else needs it

    folder, changing = Path.cwd(), watchfiles.PythonFilter(ignore_paths=[output.absolute()])
    if source.endswith(DESCRIPTOR_SET):
        folder, changing = Path(source).parent, watchfiles.PythonFilter(extra_extensions=[DESCRIPTOR_SET])
    say(f"Watching {folder.absolute()} for changes. Ctrl-C stops.")
    logging.getLogger("watchfiles").setLevel(logging.CRITICAL)
    watchfiles.run_process(folder, target=_generate_again, args=(source, output, service), watch_filter=changing)


def check(
    source: Source,
    against: Annotated[str, typer.Option(metavar="OLD", help="The contract that callers know, from the like.")],
    service: ServiceName = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    allow_unclear: Annotated[
        bool, typer.Option("--allow-unclear", help="Exit with 0 where nothing worse is found than what is unclear.")
    ] = False,
) -> None:
    """Find what has changed since an older contract, and whom it breaks.

    Exits with 1 where callers break, with 2 where that is unclear.

    \b
    ephaptic-grpc check chat:chat --against chat.binpb
    ephaptic-grpc check chat:chat --against localhost:50051 --json
    """
    contract = contract_of(source, service)
    findings = evolution(contract_of(against, service), contract)
    if as_json:
        print(findings_json(contract.service, findings))
    else:
        terminal = sys.stdout.isatty()
        width = min(shutil.get_terminal_size().columns, _WIDTH) if terminal else _WIDTH
        print(report(contract.service, findings, width=width, colour=terminal and not os.environ.get("NO_COLOR")))
    severity = findings[0].severity if findings else Severity.COMPATIBLE
    if severity is Severity.BREAKING:
        raise typer.Exit(FAILED)
    if severity is Severity.UNCLEAR and not allow_unclear:
        raise typer.Exit(_UNCLEAR)


def _generate(source: str, output: Path, service: str | None, *, check: bool = False) -> None:
    emit = openapi_json if is_openapi(output.name) else _EMITTERS[output.suffix]
    text = emit(contract_of(source, service))
    save({output: text.encode()}, f"generate {source} -o {output}", check=check)


def _generate_again(source: str, output: Path, service: str | None) -> None:
    """Generate in a process of its own, which imports what has changed. What is wrong now may be right then."""
    try:
        _generate(source, output, service)
    except SourceError as error:
        say(f"error: {error}")
