"""``python -m bench``: measure in alternating rounds, and say and draw what came out."""

import argparse
import json
import platform
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import grpc

from bench.bare import compile_stubs
from bench.chart import chart
from bench.contract import contract_costs, contract_table, save
from bench.measurements import Measurement, Pair, Variant, measurements, started
from bench.report import LEGEND, Figures, as_json, table
from bench.worker import cores

_ABOUT: Final = """\
Measure ephaptic_grpc ("ours") against a grpc.aio server and client written by hand with protobuf stubs ("bare"): the
same functions, the same payload, every server in a process on one core and every client in one on another.

A round takes every measurement once of each variant, one right after the other, and each round begins with another
variant. A ratio compares two figures of the same round, so that it hardly matters whether the machine is slower in the
next. On a machine that does other work timings prove nothing all the same: whatever they are, the exit code is 0."""

_COMMANDS: Final = {
    "all": "everything below",
    "unary": "calls of a function that gives one value",
    "stream": "items of asynchronous generators",
    "sync-stream": "items of a synchronous generator",
    "first-item": "how long the first item takes, and each of those that come slowly",
    "cancel": "from the end of a call to the clean-up of its function",
    "http": "calls and items over HTTP: plain JSON by httpx, gRPC-Web by the generated client in Node",
    "open-streams": "calls beside thousands of idle streams",
    "functions": "calls where a thousand functions are exposed",
    "memory": "what an open stream takes",
    "web": "what Envoy costs, and the TypeScript runtime against others, where npm's packages are installed",
}

_CONTRACT: Final = "CPU time to start a server and to generate clients, with 10, 100 and 1,000 functions"

Measured = list[tuple[Measurement, Figures]]


def main() -> None:
    options = _options()
    if options.command == "contract":
        costs = contract_costs(options.rounds, _say)
        print(contract_table(costs))
        if options.json:
            save(costs, options.json)
        return
    known = measurements(peers=options.peers)
    chosen = [measurement for measurement in known if options.command in ("all", measurement.command)]
    if not chosen:
        sys.exit(f"scripts/bench: there is no {options.command} with --peers here")
    measured = _measure(chosen, options.rounds, options.seconds)
    about = _about(options.rounds)
    print(about, table(measured), LEGEND, sep="\n\n")
    if options.json:
        text = json.dumps({"about": about, "measurements": as_json(measured)}, indent=1)
        options.json.write_text(f"{text}\n")
    if options.chart:
        options.chart.write_text(chart(measured, about))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "scripts/bench", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in _COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("--peers", action="store_true", help="against other libraries, in place of bare alone")
        command.add_argument("--rounds", type=int, default=21, help="after one to warm up; 21 by default")
        command.add_argument("--seconds", type=float, default=0.4, help="for one figure; 0.4 by default")
        command.add_argument("--json", type=Path, metavar="FILE", help="also write the figures of every round")
        command.add_argument("--chart", type=Path, metavar="FILE", help="also draw the ratios, as SVG")
    costs = commands.add_parser("contract", help=_CONTRACT, description=_CONTRACT)
    costs.add_argument("--rounds", type=int, default=5, help="after one to warm up; 5 by default")
    costs.add_argument("--json", type=Path, metavar="FILE", help="also write the figures of every round")
    costs.set_defaults(seconds=1.0)
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds must be at least 1, and --seconds more than 0")
    return options


def _measure(chosen: Sequence[Measurement], rounds: int, seconds: float) -> Measured:
    with tempfile.TemporaryDirectory() as stubs, ExitStack() as stack:
        compile_stubs(stubs)
        variants = dict.fromkeys(variant for measurement in chosen for variant in measurement.variants)
        pairs = {variant: stack.enter_context(started(variant, stubs)) for variant in variants}
        measured: Measured = [(measurement, defaultdict(list)) for measurement in chosen]
        for number in range(rounds + 1):
            for measurement, figures in measured:
                _say(f"round {number} of {rounds}: {measurement.title}" if number else "warming up", passing=True)
                _take(measurement, pairs, number, figures, seconds)
                if number == 0:
                    figures.clear()
            _say(f"round {number} of {rounds}" if number else "warmed up")
    return measured


def _say(text: str, *, passing: bool = False) -> None:
    """Progress: on a terminal in one line, else a line for each round."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif not passing:
        print(text, file=sys.stderr, flush=True)


def _take(measurement: Measurement, pairs: dict[Variant, Pair], number: int, figures: Figures, seconds: float) -> None:
    """One measurement of each variant; another comes first than in the round before."""
    variants = measurement.variants
    first = number % len(variants)
    for variant in variants[first:] + variants[:first]:
        figures[variant].append(measurement.take(pairs[variant], seconds))


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
