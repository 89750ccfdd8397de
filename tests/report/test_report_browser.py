"""The report in a real browser: it renders, its scripts say nothing to the console, and it asks nobody for anything."""

import json
import re
import subprocess
from collections.abc import Callable
from html import escape, unescape
from pathlib import Path
from typing import NamedTuple

import matplotlib.image
import pytest

from gmd.config import TrainBrats
from gmd.evaluation.segmentation.single_run import evaluate_run
from gmd.report import write_report
from gmd.report.page import OF_A_RUN
from gmd.training.loop import train
from helpers.browsers import BROWSER, IN_A_BROWSER
from helpers.report_cases import brats, trained, write_run, write_table
from helpers.subset_runs import run_of
from helpers.training_cases import TWO

BY_ITSELF = "not an origin"  # how the browser's log calls the one who asks, where that is no page
pytestmark = IN_A_BROWSER


class Visit(NamedTuple):
    """`output`: what the browser printed; `console`: lines that the page wrote; `requested`: what it asked for."""

    output: str
    console: list[str]
    requested: set[str]


@pytest.fixture(scope="module")
def report(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a training of two epochs, evaluated."""
    config = TrainBrats(
        data=phantoms,
        out=tmp_path_factory.mktemp("runs") / "a run",
        modalities=TWO,
        width=0.125,
        patch=(16, 16, 16),
        epochs=2,
        steps_per_epoch=2,
        device="cpu",
    )
    evaluate_run(train(config))
    return write_report(config.out)


@pytest.fixture
def visit(tmp_path: Path) -> Callable[..., Visit]:
    """Opens an address in a browser that knows nothing yet: visit(address, option, ...)."""

    def open_page(address: str, *options: str) -> Visit:
        log = tmp_path / "network.json"
        quiet = ("no-first-run", "disable-background-networking", "disable-component-update", "disable-sync")
        shown = ("headless", "no-sandbox", "disable-gpu", "hide-scrollbars", "enable-logging=stderr")
        nowhere = "host-resolver-rules=MAP * ~NOTFOUND"  # what the browser asks for by itself finds nobody
        always = (*shown, *quiet, nowhere, f"user-data-dir={tmp_path / 'profile'}", f"log-net-log={log}")
        command = [BROWSER, *(f"--{option}" for option in (*always, *options)), address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        asked = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
        requested = {about["url"] for about in asked if about.get("initiator", BY_ITSELF) != BY_ITSELF}
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        return Visit(done.stdout, console, requested)

    return open_page


def matrix(dom: str) -> list[str]:
    """The numbers that are drawn, and when they are of."""
    drawn = re.search(r'id="matrix">(.*?)</svg>', dom, re.DOTALL)[1]
    told = re.search(r'<output id="told".*?>(.*?)<', dom)[1]
    return [told, *re.findall(r'text-anchor="middle".*?>(.*?)</text>', drawn)]


def test_the_report_renders_in_silence(report: Path, visit: Callable[..., Visit]):
    seen = visit(report.as_uri(), "dump-dom")
    assert seen.console == []
    assert seen.requested == set()
    for section in OF_A_RUN:
        assert f'<section id="{section.id}">' in seen.output
    assert seen.output.count('class="frame"') >= 5, "curves"
    assert seen.output.count("<img") >= 3, "small matrices, and cases"
    last = matrix(seen.output)
    assert last[0] == "epoch 2"
    assert len(last) == 1 + 3 * 3, "the objectives of two modalities"

    first = visit(f"{report.as_uri()}#matrix=0", "dump-dom")
    assert first.console == []
    assert matrix(first.output)[0] == "epoch 1"
    assert matrix(first.output)[1:] != last[1:]


def test_a_page_that_is_not_silent_is_noticed(tmp_path: Path, visit: Callable[..., Visit]):
    """So that the test above can fail."""
    page = tmp_path / "loud.html"
    page.write_text("<img src='http://127.0.0.1:9/picture.png'><script>console.log('heard')</script>")
    seen = visit(page.as_uri(), "dump-dom")
    assert any("heard" in line for line in seen.console)
    assert seen.requested == {"http://127.0.0.1:9/picture.png"}


CLICKS = """<script>
const heading = document.querySelectorAll(".heat thead button")[0];
const rows = () => [...document.querySelectorAll(".heat tbody:first-of-type tr")];
const sorted = [];
for (let click = 0; click < 2; click++) {
  heading.click();
  sorted.push(rows().map((row) => +row.cells[2].dataset.value));
}
const slider = document.getElementById("when");
slider.value = 0;
slider.dispatchEvent(new Event("input"));
const frame = document.querySelector(".frame"), box = frame.getBoundingClientRect();
frame.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + 1, clientY: box.top + 1 }));
const told = document.getElementById("told").textContent;
const reading = [...document.querySelectorAll(".reading > div")].map((line) => line.textContent);
document.body.replaceChildren(JSON.stringify({ sorted, told, reading }));
</script>"""


def test_clicks_sort_and_the_slider_and_the_pointer_are_answered(tmp_path: Path, visit: Callable[..., Visit]):
    run = write_run(tmp_path / "run", brats(), trained())
    dice = [row[0] for row in write_table(run)[:-1]]
    driven = tmp_path / "driven.html"
    driven.write_text(write_report(run).read_text().replace("</body>", f"{CLICKS}</body>"))
    seen = visit(driven.as_uri(), "dump-dom")
    assert seen.console == []
    answers = json.loads(re.search(r"<body.*?>(.*)</body>", seen.output, re.DOTALL)[1])
    assert answers["sorted"] == [sorted(dice, reverse=True), sorted(dice)], "best first, then turned round"
    assert answers["told"] == "epoch 1"
    assert answers["reading"] == ["● flair+t1 1.20", "● t1 1.10", "● flair 1.00", "● mean of all objectives 1.00"]


# frames, since a window has no less than 500 pixels; each tells its parent what it finds
FRAMES = """<body><script>
const found = {};
addEventListener("message", ({ data }) => {
  found[data.name] = data;
  if (Object.keys(found).length === document.querySelectorAll("iframe").length)
    document.body.replaceChildren(JSON.stringify(found));
});
</script>"""
LOOK = """<script>
addEventListener("load", () => {
  const inside = (element) => element.closest(".scrolls, .folded:not([open])");
  const beyond = [...document.querySelectorAll("body *")]
    .filter((element) => element.getBoundingClientRect().right > innerWidth + 1 && !inside(element));
  const height = (part) => part.getBoundingClientRect().height;
  const folded = [...document.querySelectorAll(".folded")].map((part) => {
    const summary = part.querySelector("summary"), closed = height(part);
    summary.focus();
    const reached = document.activeElement === summary; // Enter and the space bar click what has the focus
    summary.click();
    return [reached, part.open, height(part) - closed];
  });
  const pictures = [...document.querySelectorAll(".picture")].map((part) => {
    const image = part.querySelector("img"), width = () => Math.round(image.getBoundingClientRect().width);
    const before = width();
    image.click();
    return [before, width(), image.naturalWidth];
  });
  const width = document.documentElement.scrollWidth, outside = beyond.map((element) => element.outerHTML);
  parent.postMessage({ name: NAME, width, room: innerWidth, outside, folded, pictures }, "*");
});
</script></body>"""


def test_it_fits_a_telephone_and_a_screen_and_unfolds(report: Path, tmp_path: Path, visit: Callable[..., Visit]):
    """A run with pictures of cases, and one with 63 subsets; after all that is folded was opened."""
    pages = {"cases": report, "subsets": write_report(run_of(tmp_path / "long", 6, further=True))}
    frames = []
    for name, page in pages.items():
        for width in (400, 1400):
            look = LOOK.replace("NAME", f'"{name} {width}"')
            text = escape(page.read_text(encoding="utf-8").replace("</body>", look))
            frames.append(f'<iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{text}"></iframe>')
    driven = tmp_path / "driven.html"
    driven.write_text(f"{FRAMES}{''.join(frames)}", encoding="utf-8")
    seen = visit(driven.as_uri(), "dump-dom", "virtual-time-budget=10000")
    assert seen.console == []
    found = json.loads(unescape(re.search(r"<body.*?>(.*)</body>", seen.output, re.DOTALL)[1]))
    assert len(found) == 4
    for name, page in found.items():
        assert page["room"] == int(name.split()[1])
        assert page["width"] <= page["room"], name
        assert page["outside"] == [], name
        assert page["folded"], name
        for reached, is_open, more in page["folded"]:
            assert reached, name
            assert is_open, name
            assert more > 50, "pixels"
    assert len(found["subsets 400"]["folded"]) == 4 + 2 * 5 + 1, "groups, further tables and theirs, options"
    for width in (400, 1400):
        assert found[f"cases {width}"]["pictures"], "this test would see nothing"
        for before, after, pixels in found[f"cases {width}"]["pictures"]:
            assert before <= after == pixels


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_not_blank(report: Path, tmp_path: Path, visit: Callable[..., Visit], scheme: str):
    picture = tmp_path / "page.png"
    option = f"blink-settings=preferredColorScheme={'01'[scheme == 'light']}"
    visit(report.as_uri(), f"screenshot={picture}", "window-size=800,2400", option)
    pixels = matplotlib.image.imread(picture)[..., :3]
    assert pixels.shape[:2] == (2400, 800)
    assert (pixels[0, 0].mean() > 0.9) == (scheme == "light"), "the paper"
    for part in (pixels[:800], pixels[800:1600], pixels[1600:]):
        assert part.std() > 0.05, "a third of the page is blank"
