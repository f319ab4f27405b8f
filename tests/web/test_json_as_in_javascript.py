"""What JSON means here is what ``JSON.parse`` makes of it, in a Node that is asked."""

import json
import random
import subprocess
from typing import Any

import pytest
from pydantic_core import to_json

from ephaptic_grpc import ServiceError
from ephaptic_grpc.arguments import Arguments
from ephaptic_grpc.procedure import resolved_signature

PROGRAM = """
const lines = require("fs").readFileSync(0, "utf8").split("\\n").slice(0, -1);
for (const line of lines) {
  let told;
  try { told = { value: JSON.parse(JSON.parse(line)) }; } catch { told = null; }
  console.log(JSON.stringify(told));
}
"""

TEXTS = [
    '{"a": 1, "a": 2}',
    '{"a": 1, "b": 2, "a": 3, "a": {"c": 1, "c": null}}',
    r'{"a": 1, "\u0061": 2}',
    '{"__proto__": 1, "constructor": 2, "": 3}',
    "[1, 2,]", "[,1]", '{"a": 1,}', "{'a': 1}", "[1 2]", '{"a" 1}', "", " ", "[", "]", "nul", "True", "undefined",
    "01", "-", "+1", ".5", "5.", "1e", "1e+", "0x10", "1_000", "-0", "-0.0", "1E5", "1e-400", "0.1e1",
    "NaN", "-Infinity",
    "9007199254740991", "1.7976931348623157e308", "123456789.123456789e-5",
    '"\t"', '"\\x41"', '"\\u00e9"', '"\\ud83d\\ude00"', '"é\u2028"', '"\\u0000"', '"\\/"', '"a', "\ufeff1", "\u00a01",
    "1 // x",
    "[[[]]]", " [ 1 , \t2\r] ", "[" * 150 + "]" * 150, "truefalse", '"a""b"', "{} {}", "[]]",
]  # fmt: skip
"""Texts on which parsers of JSON differ."""


def anything(value: Any) -> None: ...


def random_text(chance: random.Random, depth: int = 3) -> str:
    kind = chance.randrange(8 if depth else 6)
    if kind == 6:
        return "[" + ",".join(random_text(chance, depth - 1) for _ in range(chance.randrange(4))) + "]"
    if kind == 7:
        keys = [chance.choice("abc") for _ in range(chance.randrange(5))]
        return "{" + ", ".join(f'"{key}" : {random_text(chance, depth - 1)}' for key in keys) + "}"
    return [
        str(chance.randrange(-(2**53), 2**53)),
        repr(chance.uniform(-1e6, 1e6)),
        json.dumps("".join(chance.choices('ab"\\/\n\x00é😀', k=4))),
        f"{chance.randrange(100)}e{chance.randrange(-30, 30)}",
        "null",
        chance.choice(["true", "false"]),
    ][kind]


def mutated(chance: random.Random, text: str) -> str:
    at = chance.randrange(len(text))
    return text[:at] + chance.choice(["", '"', ",", "}", "]", "\\", "0", "-", "e", " "]) + text[at + 1 :]


@pytest.mark.once
def test_it_is_what_javascript_makes_of_it():
    chance = random.Random(7)
    texts = TEXTS + [random_text(chance) for _ in range(400)]
    texts += [mutated(chance, text) for text in texts if text]
    asked = "".join(json.dumps(text) + "\n" for text in texts)
    told = subprocess.run(["node", "-e", PROGRAM], input=asked, capture_output=True, text=True, check=True).stdout
    arguments = Arguments(resolved_signature(anything, {}))
    refused = 0
    for text, line in zip(texts, told.removesuffix("\n").split("\n"), strict=True):
        theirs = json.loads(line)
        try:
            ((value,), _) = arguments.load(b"[" + text.encode() + b"]") if text.strip() else ((_none(),), {})
        except (ServiceError, ValueError) as error:
            if "surrogate" in str(error):
                continue  # half a character is none, here
            refused += 1
            assert theirs is None, text
        else:
            assert theirs == {"value": json.loads(to_json(value, inf_nan_mode="null"))}, text
    assert 50 < refused < len(texts) / 2


def _none() -> None:
    raise ValueError("there is no value")
