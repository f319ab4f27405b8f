"""``python -m bench``: measure in alternating rounds, and print what came out."""

import argparse
import json
import platform
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import grpc

from bench.bare import compile_stubs
from bench.measurements import Measurement, Pair, Variant, measurements, started
from bench.report import LEGEND, Figures, as_json, table
from bench.worker import cores

_ABOUT: Final = """\
Measure ephaptic_grpc ("ours") against a grpc.aio server and client written by hand with protobuf stubs ("bare"): the
same machine, the same payload, every server in a process on one core and every client in one on another.

A round takes every measurement once of each variant, one right after the other, and each round begins with another
variant. A ratio compares two figures of the same round, so that it hardly matters whether the machine is slower in the
next. On a machine that does other work timings prove nothing all the same: whatever they are, the exit code is 0."""

Measured = list[tuple[Measurement, Figures]]


def main() -> None:
    known = {measurement.name: measurement for measurement in measurements()}
    options = _options(known)
    measured = _measure([known[options.only]] if options.only else list(known.values()), options.rounds)
    about = _about(options.rounds)
    print(about, table(measured), LEGEND, sep="\n\n")
    if options.json:
        options.json.write_text(json.dumps({"about": about, "measurements": as_json(measured)}, indent=1))


def _options(names: Iterable[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "scripts/bench", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=21, help="after one to warm up; 21, the default, take 4 minutes")
    parser.add_argument("--only", choices=names, help="take one measurement instead of all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures of every round to a file")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def _measure(chosen: Sequence[Measurement], rounds: int) -> Measured:
    with tempfile.TemporaryDirectory() as stubs, ExitStack() as stack:
        compile_stubs(stubs)
        variants = dict.fromkeys(variant for measurement in chosen for variant in measurement.variants)
        pairs = {variant: stack.enter_context(started(variant, stubs)) for variant in variants}
        measured: Measured = [(measurement, defaultdict(list)) for measurement in chosen]
        for number in range(rounds + 1):
            for measurement, figures in measured:
                _take(measurement, pairs, number, figures)
                if number == 0:
                    figures.clear()
            print(f"round {number} of {rounds}" if number else "warmed up", file=sys.stderr)
    return measured


def _take(measurement: Measurement, pairs: dict[Variant, Pair], number: int, figures: Figures) -> None:
    """One measurement of each variant; another comes first than in the round before."""
    variants = measurement.variants
    first = number % len(variants)
    for variant in variants[first:] + variants[:first]:
        figures[variant].append(measurement.take(pairs[variant]))


def _about(rounds: int) -> str:
    server, client = cores()
    where = "not pinned to cores" if server is None else f"servers on core {server}, clients on core {client}"
    return f"{rounds} rounds; {where}; Python {platform.python_version()}, grpcio {grpc.__version__}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except RuntimeError as error:
        sys.exit(f"scripts/bench: {error}")
