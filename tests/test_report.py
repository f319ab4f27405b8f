import json
import re

from ephaptic_grpc.differences import Severity
from ephaptic_grpc.evolution import Finding
from ephaptic_grpc.report import findings_json, report

NEEDED = "has to be given now: callers are refused; give it a default"
FINDINGS = [
    Finding(Severity.BREAKING, "place", "order.quantity", NEEDED),
    Finding(Severity.BREAKING, "quote", "order.quantity", NEEDED),
    Finding(Severity.UNCLEAR, "search", "-> [].price", "changed"),
    Finding(Severity.COMPATIBLE, "cancel", "", "is new: nobody calls it yet"),
]


def test_one_screen():
    assert report("shop.v1.ShopService", FINDINGS, width=50, colour=False) == (
        "shop.v1.ShopService: 2 breaking, 1 unclear, 1 compatible\n"
        "\n"
        "breaking    place(order.quantity),\n"
        "            quote(order.quantity)\n"
        "              has to be given now: callers are\n"
        "              refused; give it a default\n"
        "\n"
        "unclear     search() -> [].price\n"
        "              changed\n"
        "\n"
        "compatible  cancel\n"
        "              is new: nobody calls it yet"
    )


def test_what_is_the_same_in_many_places_is_said_once():
    many = [Finding(Severity.BREAKING, f"f{index}", "user.name", "is gone") for index in range(100)]
    said = report("a.v1.A", many, width=80, colour=False)
    assert said.count("is gone") == 1
    assert "and 96 more" in " ".join(said.split())
    assert len(json.loads(findings_json("a.v1.A", many))["findings"]) == 100


def test_nothing_to_say():
    assert report("a.v1.A", [], width=80, colour=False) == "a.v1.A: nothing has changed for its callers"
    assert json.loads(findings_json("a.v1.A", [])) == {"service": "a.v1.A", "verdict": "compatible", "findings": []}


def test_colours_mark_and_change_no_word():
    plain = report("a.v1.A", FINDINGS, width=60, colour=False)
    marked = report("a.v1.A", FINDINGS, width=60, colour=True)
    assert "\x1b[1;31mbreaking " in marked
    assert re.sub(r"\x1b\[[\d;]+m", "", marked) == plain


def test_a_hostile_name_does_nothing_to_a_terminal():
    hostile = [Finding(Severity.BREAKING, "f", "a\x1b]0;gone\x07\n", "was \x1b[2J, is \u202e")]
    said = report("a.v1.A", hostile, width=80, colour=False)
    assert not {"\x1b", "\x07", "\u202e"} & set(said)
    assert "\x1b" not in findings_json("a.v1.A", hostile)


def test_a_narrow_terminal():
    for width in (1, 10, 20):
        assert report("a.v1.A", FINDINGS, width=width, colour=True)
