"""Text of an Envoy configuration: templates, and what stands in them and can't become a part of the configuration."""

import ipaddress
import json
import re
from collections.abc import Sequence
from textwrap import dedent, indent
from typing import Final

TYPES: Final = "type.googleapis.com/envoy.extensions"
"""Where Envoy's messages are; ``$types`` in templates."""


def address(address: str) -> str:
    if "/" in address:
        return f"{{pipe: {{path: {quoted(address)}}}}}"
    host, port = split(address)
    return f"{{socket_address: {{address: {quoted(host)}, port_value: {port}}}}}"


def split(address: str) -> tuple[str, int]:
    """Host and port; ValueError where an address isn't of that form."""
    found = re.fullmatch(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[\w.-]+)):(?P<port>\d{1,5})", address, re.ASCII)
    if found is None or int(found["port"]) > 65535:
        raise ValueError(f"an address is host:port, such as 127.0.0.1:50051 or [::1]:50051, not {address!r}")
    return found["v6"] or found["host"], int(found["port"])


def is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def quoted(text: str) -> str:
    """Text as a JSON string that is a YAML string, too: YAML breaks lines at characters that JSON leaves alone."""
    return re.sub(
        r"[^\x20-\x7e]",
        lambda found: f"\\u{ord(found[0]):04x}" if ord(found[0]) < 0x10000 else f"\\U{ord(found[0]):08x}",
        json.dumps(text, ensure_ascii=False),
    )


def fill(template: str, **parts: str) -> str:
    """A template with its parts in place: what stands alone on a line is indented like it, or left out where empty."""
    lines = []
    for line in dedent(template).strip("\n").rstrip().splitlines():
        alone = re.fullmatch(r"( *)\$(\w+)", line)
        if alone:
            if parts[alone[2]]:
                lines.append(indent(parts[alone[2]], alone[1]))
        else:
            lines.append(re.sub(r"\$(\w+)", lambda found: {"types": TYPES, **parts}[found[1]], line))
    return "\n".join(lines)


def hosts_of(upstreams: Sequence[str]) -> list[str]:
    """The hosts of addresses, each once; a Unix socket has none."""
    return list(dict.fromkeys(split(upstream)[0] for upstream in upstreams if not upstream.startswith("/")))
