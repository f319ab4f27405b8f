"""``python -m soak``: run the parts that were asked for, one after the other, and say what came out."""

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import grpc

from soak.bounds import bounds
from soak.faults import black_hole, deadlines, drain, kills, vanish
from soak.load import burst, mixed, slow_reader, streams
from soak.report import Figure, Found, as_json, missed, table
from soak.scale import SHORT, Say, Scale

_ABOUT: Final = """\
Soak a server: break it and load it for longer than a test may take, in processes of their own and with real signals.
docs/reliability.md says what is promised, and what was measured last.

parts, all of them where none is named:
{parts}

The exit code is 1 where a goal is missed. All of it takes about a quarter of an hour, --short a minute: that does less
of everything, leaves black-hole and drain out, and judges times and memory leniently, since a busy machine proves
little."""

_PARTS: Final[dict[str, Callable[[Scale, Say], Awaitable[list[Figure]]]]] = {
    "kills": kills,
    "vanish": vanish,
    "black-hole": black_hole,
    "drain": drain,
    "deadlines": deadlines,
    "streams": streams,
    "burst": burst,
    "bounds": bounds,
    "mixed": mixed,
    "slow-reader": slow_reader,
}

_LONG: Final = ("black-hole", "drain")
"""Parts of which a test of its own, with other figures, is shorter."""


def main() -> None:
    options = _options()
    scale = SHORT if options.short else Scale()
    found: Found = {}
    for name in options.parts or [name for name in _PARTS if not (options.short and name in _LONG)]:
        begun = time.perf_counter()
        found[name] = asyncio.run(_run(name, scale))
        _say(f"{name}: {time.perf_counter() - begun:.0f} s")
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"Python {platform.python_version()}, grpcio {grpc.__version__}, {os.cpu_count()} cores, load {load}\n")
    print(table(found, short=options.short))
    if options.json:
        options.json.write_text(json.dumps(as_json(found), indent=1) + "\n")
    count = missed(found, short=options.short)
    if count:
        sys.exit(f"scripts/soak: {count} of the goals were missed")


async def _run(name: str, scale: Scale) -> list[Figure]:
    return await _PARTS[name](scale, lambda text: _say(f"{name}: {text}", passing=True))


def _options() -> argparse.Namespace:
    width = max(map(len, _PARTS)) + 2
    parts = "\n".join(f"  {name:<{width}}{part.__doc__}" for name, part in _PARTS.items())
    parser = argparse.ArgumentParser(
        "scripts/soak", description=_ABOUT.format(parts=parts), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[[], *_PARTS], help="one of the above")
    parser.add_argument("--short", action="store_true", help="as a test does it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures")
    return parser.parse_args()


_last_said = 0.0


def _say(text: str, *, passing: bool = False) -> None:
    """Progress: on a terminal in one line, else a line now and then."""
    global _last_said
    now = time.monotonic()
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="" if passing else "\n", file=sys.stderr, flush=True)
    elif not passing or now - _last_said > 10:
        _last_said = now
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except RuntimeError as error:
        sys.exit(f"scripts/soak: {error}")
