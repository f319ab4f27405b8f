"""What the number of functions costs: when a server starts, and when a client is generated."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, Final

from pydantic import BaseModel, create_model

from ephaptic_grpc import Server, Service
from ephaptic_grpc.codegen.proto import proto_files
from ephaptic_grpc.codegen.python import python_module
from ephaptic_grpc.codegen.typescript import typescript_module
from ephaptic_grpc.contract import Contract

COUNTS: Final = (10, 100, 1_000)
_COLUMNS: Final = ("expose and start", "contract", ".py", ".ts", ".proto")

Costs = dict[int, dict[str, list[float]]]


def contract_costs(rounds: int, say: Callable[[str], None]) -> Costs:
    """Seconds of CPU for each step, by the number of functions, in every round after one to warm up."""
    costs: Costs = {count: {column: [] for column in _COLUMNS} for count in COUNTS}
    for number in range(rounds + 1):
        for count in COUNTS:
            for column, seconds in _round(count).items():
                if number:
                    costs[count][column].append(seconds)
        say(f"round {number} of {rounds}" if number else "warmed up")
    return costs


def contract_table(costs: Costs) -> str:
    """The medians, in milliseconds of CPU, and per function, which is the same where the growth is linear."""
    lines = ["".join([f"{'functions':>9}", *(f"{column:>26}" for column in _COLUMNS)])]
    for count, figures in costs.items():
        cells = [f"{count:>9,}"]
        for column in _COLUMNS:
            seconds = median(figures[column])
            cells.append(f"{seconds * 1e3:>13,.1f} ms ({seconds / count * 1e3:.2f} each)".rjust(26))
        lines.append("".join(cells))
    return "\n".join(lines)


def save(costs: Costs, path: Path) -> None:
    """Write the figures of every round."""
    path.write_text(json.dumps({"unit": "seconds of CPU", "by functions": costs}, indent=1) + "\n")


def _round(count: int) -> dict[str, float]:
    models = [
        create_model(f"Model{index}", name=(str, ...), limit=(int, 3), tags=(list[str], [])) for index in range(count)
    ]
    took: dict[str, float] = {}
    before = process_time()

    def step(column: str) -> None:
        nonlocal before
        now = process_time()
        took[column] = now - before
        before = process_time()

    service = Service("scale.v1.ScaleService")
    for index, model in enumerate(models):
        service.expose(name=f"function_{index}")(_function(model))
    asyncio.run(_start(service))
    step("expose and start")
    contract = Contract.of(service)
    step("contract")
    python_module(contract)
    step(".py")
    typescript_module(contract)
    step(".ts")
    proto_files([contract])
    step(".proto")
    return took


def _function(model: type[BaseModel]) -> Callable[..., Any]:
    async def function(one: model, limit: int = 10) -> list[model]:  # type: ignore[valid-type]
        return [one] * limit

    return function


async def _start(service: Service) -> None:
    async with Server(service, port=0, grace=0):
        pass
