"""``scripts/demo``: Python, Envoy and the page of the example, at one address, used as a person would."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from conftest import HERE

ROOT = HERE.parents[1]
PICTURES = ROOT / "build/screenshots"
"""Kept, to be looked at."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with subprocess.Popen([ROOT / "scripts/demo", "0"], stdout=-1, stderr=-2, text=True) as demo:
        try:
            said = []
            for line in demo.stdout:
                said.append(line)
                if found := re.match(r"Open  (\S+)  in a browser", line):
                    break
            else:
                raise AssertionError("".join(said))
            assert "Lambda" in "".join(said)  # an answer in the terminal, before
            yield found[1]
        finally:
            demo.terminate()
            assert demo.wait(20) == 0


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_page(open_page, url, width, height):
    page = open_page(url)
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_function("document.querySelector('#cpu').textContent.endsWith('%')")

    page.click("#send")
    answer = page.locator(".answer")
    page.wait_for_function("document.querySelector('.answer')?.textContent.length > 20")
    assert page.inner_text("#send") == "Stop"
    page.click("#send")
    answer.locator("small").wait_for()
    assert answer.locator("small").inner_text() == "stopped"
    assert page.inner_text("#send") == "Send"
    stopped = answer.inner_text()

    page.fill("#question", "x" * 10_001)
    page.click("#send")
    page.locator(".bad").wait_for()
    bad = "INVALID_ARGUMENT: message: String should have at most 10000 characters"
    assert page.inner_text(".answer .bad") == bad
    assert answer.first.inner_text() == stopped  # nothing more came

    page.click("#pause")
    page.wait_for_function("document.querySelector('#pause').textContent === 'Resume'")
    page.click("#pause")
    page.wait_for_function("document.querySelector('#state').textContent.startsWith('live')")

    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"demo-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width  # nothing sticks out


def test_the_client_of_the_page_is_fresh():
    """Else: ephaptic-grpc generate examples.chat:chat -o examples/page/client.ts"""
    command = [sys.executable, "-m", "ephaptic_grpc", "generate", "examples.chat:chat", "-o", "examples/page/client.ts"]
    result = subprocess.run([*command, "--check"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
