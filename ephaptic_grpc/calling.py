"""A call from a shell: arguments out of words, values printed as they arrive, a failure told with its details."""

import re
import sys
from base64 import b64decode
from collections.abc import Sequence
from typing import Final

import grpc
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest
from pydantic_core import from_json, to_json

from ephaptic_grpc.connections import client_options
from ephaptic_grpc.errors import CallError
from ephaptic_grpc.handshake import ChannelSecurity
from ephaptic_grpc.options import Options
from ephaptic_grpc.payload import unpack

_NAMED: Final = re.compile(r"([^\W\d]\w*)(:?=)(.*)", re.DOTALL)
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]")


def arguments_of(given: Sequence[str]) -> bytes:
    """The JSON of the arguments on a command line.

    Raises:
        ValueError: they are none; the message says what would be right.
    """
    if any("\ud800" <= character <= "\udfff" for character in "".join(given)):
        raise ValueError("the arguments are not UTF-8")
    if len(given) == 1 and given[0].lstrip()[:1] in ("{", "["):
        try:
            from_json(given[0])
        except ValueError as error:
            raise ValueError(f"bad JSON: {error}") from None
        return given[0].encode()
    named = {}
    for argument in given:
        found = _NAMED.fullmatch(argument)
        if found is None and argument.lstrip()[:1] in ("{", "["):
            raise ValueError(f"{argument!r} is all the arguments: put the others into it, or give each by its name")
        if found is None:
            raise ValueError(f"{argument!r} is neither name=text, name:=json, nor a JSON object or array")
        name, kind, text = found.groups()
        if name in named:
            raise ValueError(f"{name!r} is given twice; a list is one argument: '{name}:=[1, 2]'")
        try:
            named[name] = from_json(text) if kind == ":=" else text
        except ValueError:
            raise ValueError(f"{argument!r} is not JSON after ':='; for text write '{name}={text}'") from None
    return to_json(named)


def metadata_of(headers: Sequence[str]) -> list[tuple[str, str | bytes]]:
    """The metadata that headers on a command line say; of a name that ends with ``-bin``, in base64.

    Raises:
        ValueError: it is none; the message never has its value.
    """
    metadata: list[tuple[str, str | bytes]] = []
    for number, header in enumerate(headers, 1):
        name, colon, value = (part.strip() for part in header.partition(":"))
        if not colon or not name:
            raise ValueError(f"-H takes 'name: value', and number {number} is not of that form")
        try:
            metadata.append((name, b64decode(value, validate=True) if name.lower().endswith("-bin") else value))
        except ValueError:
            raise ValueError(f"-H {name!r}: the value of a name that ends with '-bin' is base64") from None
    return metadata


async def print_items(security: ChannelSecurity, path: str, request: bytes, options: Options) -> None:
    """Print the value, or each item as it arrives, on a line of its own.

    Raises:
        CallError: the call failed.
        MalformedPayloadError: what came back is not of ephaptic_grpc.
    """
    of_any_size = ("grpc.max_receive_message_length", -1)  # a person has asked for it
    async with security.aio_channel([of_any_size, *client_options()]) as channel:
        method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path)
        try:
            async for message in method(request, timeout=options.timeout, metadata=options.metadata):
                sys.stdout.buffer.write(one_line(unpack(message)) + b"\n")
                sys.stdout.buffer.flush()
        except grpc.RpcError as error:
            raise await security.explain_soon(CallError.of(error, path)) from None


def one_line(json: bytes) -> bytes:
    """JSON that comes from a stranger and goes to a terminal, as one line that moves no cursor."""
    return _CONTROL.sub(_escaped, json)


def _escaped(control: re.Match[bytes]) -> bytes:
    # As long as it is JSON: white space between tokens, or a character of a text.
    return b" " if control[0] in b"\n\r\t" else b"\\u%04x" % ord(control[0].decode())


def told(error: CallError, given: Sequence[str]) -> str:
    """What is said of a call that failed, with its details below.

    Args:
        error: what the call raised.
        given: the arguments on the command line.
    """
    lines = [str(error)]
    for detail in error.details:
        if isinstance(detail, BadRequest):
            lines[0] = f"{error.code.name}: {error.message.partition(':')[0]}"
            lines += [
                f"  {violation.field}: {violation.description}{_hint(violation.field, given)}"
                for violation in detail.field_violations
            ]
        elif isinstance(detail, Message):
            lines.append(f"  {detail.DESCRIPTOR.full_name}: {' '.join(str(detail).split())}")
        else:
            lines.append(f"  {to_json(detail).decode()}")
    return "\n".join(line.replace("\n", "\\n") for line in lines)


def _hint(field: str, given: Sequence[str]) -> str:
    """What may have been meant where JSON was given as text."""
    for argument in given:
        found = _NAMED.fullmatch(argument)
        if found is not None and (found[1], found[2]) == (field, "=") and found[3].lstrip()[:1] in ("{", "["):
            return f" (this is text; for JSON write '{field}:=...')"
    return ""
