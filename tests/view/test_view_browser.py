"""The page of a case in a real browser: it draws every voxel as it is, and answers keys, wheel and clicks."""

import html
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from gmd.view.case_view import CaseView
from gmd.view.page import DIFFERENCES, page_of
from helpers.browsers import BROWSER, IN_A_BROWSER
from helpers.view_cases import REGIONS, made_up_view

MOST_TIME = 10**9  # ms of a clock that stands while there is work: a busy machine takes longer, and reaches the end
pytestmark = IN_A_BROWSER
DRIVER = r"""<script>
const answers = { errors: [] };
window.addEventListener("error", (event) => answers.errors.push(event.message));
const all = [...document.querySelectorAll("script[type='text/plain']")].map((element) => element.id);
const where = () => document.getElementById("where").textContent;
const sent = (event, on) => { on.dispatchEvent(event); draw(); return where(); };
const usual = { bubbles: true, cancelable: true };
const press = (key, on) => sent(new KeyboardEvent("keydown", { key, ...usual }), on);
const wheel = (deltaY) => sent(new WheelEvent("wheel", { deltaY, ...usual }), stage);
const choose = (value) => { document.querySelector(`[value="${value}"]`).click(); draw(); };
const set = (name, value) => { controls.elements[name].value = value; draw(); };
function voxels(canvas) { // the pixel in the middle of each one, row after row from the top
  const { plane } = settings(), [wide, high] = [about.shape[plane.right], about.shape[plane.up]];
  const [right, up] = [canvas.width / wide, canvas.height / high];
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const at = (x, y) => 4 * (Math.floor((y + 0.5) * up) * canvas.width + Math.floor((x + 0.5) * right));
  const colour = (x, y) => [...data.slice(at(x, y), at(x, y) + 3)];
  const rows = [...Array(high).keys()].map((y) => [...Array(wide).keys()].map((x) => colour(x, y)));
  return { right, up, rows };
}
const pictures = () => buttons.map((button) => voxels(button.querySelector("canvas")));
const letters_of = []; // as they are written: pane, text, and where, in shares of the pane
const { fillText } = CanvasRenderingContext2D.prototype;
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
  const { canvas, textAlign, textBaseline } = this;
  letters_of.push([panes.indexOf(canvas), text, x / canvas.width, y / canvas.height, textAlign, textBaseline]);
  fillText.call(this, text, x, y);
};
const written = () => { letters_of.length = 0; draw(); return [...letters_of]; };
const soon = () => new Promise((next) => setTimeout(next, 10));
(async () => {
  while (all.some((id) => !volume(id))) await soon();
  draw();
  answers.width = innerWidth;
  answers.overflow = document.documentElement.scrollWidth - innerWidth;
  answers.columns = stage.classList.contains("one-column") ? 1 : 2;
  ASKED
  const element = { id: "answers", textContent: JSON.stringify(answers) };
  top.document.body.append(Object.assign(document.createElement("pre"), element));
})();
</script>"""
ASKED = r"""
  answers.start = where();
  answers.labels = panes.map((canvas) => canvas.getAttribute("aria-label"));
  answers.sizes = panes.map((canvas) => [canvas.width / about.shape[0], canvas.height / about.shape[1]]);
  answers.keys = ["ArrowRight", "ArrowUp", "ArrowLeft", "PageUp", "Home", "End"].map((key) => press(key, stage));
  const { body } = document;
  answers.elsewhere = [press("ArrowDown", body), press("ArrowLeft", body), press("ArrowLeft", slider)];
  answers.wheel = [wheel(40), wheel(10), wheel(10), wheel(-200), wheel(30)];
  document.getElementById("most").click();
  draw();
  answers.most = where();
  set("opacity", 0);
  answers.grey = pictures()[0];
  set("opacity", 100);
  answers.regions = pictures();
  answers.panes = panes.map(voxels);
  answers.letters = [written()];
  document.querySelector("[name=region][value='2']").click();
  choose("coronal");
  answers.coronal = pictures();
  answers.coronalAt = where();
  answers.letters.push(written());
  choose("sagittal");
  choose("differences");
  answers.letters.push(written());
  answers.differences = pictures();
  answers.legend = !document.getElementById("legend").hidden;
  choose("contour");
  answers.contour = pictures()[0];
  buttons[0].click();
  document.getElementById("worst").click();
  draw();
  answers.worst = where();
  document.querySelectorAll("[name=region]:checked").forEach((box) => box.click());
  answers.noneDiffers = [press("ArrowRight", stage)];
  document.getElementById("worst").click();
  draw();
  answers.noneDiffers.push(where());
  answers.chosen = ["chosen", "score"].map((id) => document.getElementById(id).textContent.trim());
  answers.pressed = buttons.map((button) => button.getAttribute("aria-pressed"));
"""
ASKED_OF_MANY = r"""
  const folded = document.querySelector("details:not([open])");
  const canvas = folded.querySelector("canvas");
  answers.folded = [...document.querySelectorAll("details")].filter((group) => !group.open).length;
  answers.before = [canvas.width, canvas.height];
  folded.querySelector("summary").click();
  for (let waits = 0; waits < 100 && canvas.width === answers.before[0]; waits++) await soon();
  answers.opened = voxels(canvas);
  answers.overflowOpened = document.documentElement.scrollWidth - innerWidth;
"""
# what stands at the left, right, upper and lower edge: the patient's sides
EDGES = {"axial": "LRAP", "coronal": "LRSI", "sagittal": "PASI"}
ROOM = 16  # pixels around the middle of an edge that letters may take


def dumped(text: str, folder: Path) -> str:
    """What a browser makes of a page, once its script has nothing more to do; it must say nothing to the console."""
    place = folder / "page.html"
    place.write_text(text)
    options = ("headless", "no-sandbox", "disable-gpu", "hide-scrollbars", "enable-logging=stderr", "no-first-run")
    options += ("disable-background-networking", f"user-data-dir={folder / 'profile'}", "window-size=1500,1000")
    command = [BROWSER, *(f"--{option}" for option in (*options, f"virtual-time-budget={MOST_TIME}", "dump-dom"))]
    done = subprocess.run([*command, place.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not [line for line in console if "willReadFrequently" not in line], "the page itself reads nothing back"
    return done.stdout


def answers_of(page: str, folder: Path, width: int, asked: str = ASKED) -> dict:
    """What a page answers to a script, in a frame of this width: windows have 500 pixels at least."""
    driven = html.escape(page.replace("</body>", f"{DRIVER.replace('ASKED', asked)}</body>"))
    frame = f'<!DOCTYPE html><body><iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{driven}">'
    answers = re.search(r'<pre id="answers">(.*?)</pre>', dumped(frame, folder), re.DOTALL)
    assert answers, "the script of the test has come to no end"
    return json.loads(html.unescape(answers[1]))


def rgb(code: str) -> list[int]:
    return [int(code[place : place + 2], 16) for place in (1, 3, 5)]


def slices(voxels: np.ndarray, axis: int, at: int) -> np.ndarray:
    """A slice as it is seen: rows from the top, columns from the left."""
    return np.take(voxels, at, axis=axis).T[::-1]


def drawn(picture: dict) -> np.ndarray:
    return np.array(picture["rows"], np.uint8)


def coloured(bits: np.ndarray, colours: list[list[int]], grey: np.ndarray) -> np.ndarray:
    """What opaque regions over an image look like: the last region of a voxel hides the others."""
    picture = np.repeat(grey[..., None], 3, axis=-1)
    for number, colour in enumerate(colours):
        picture[(bits >> number & 1) == 1] = colour
    return picture


def without_letters(picture: dict) -> np.ndarray:
    """Which voxels of a pane have no letter over their middle."""
    high, wide, _ = drawn(picture).shape
    x, y = (np.arange(wide) + 0.5) * picture["right"], (np.arange(high) + 0.5) * picture["up"]
    middle = (abs(y - high * picture["up"] / 2) < ROOM)[:, None], (abs(x - wide * picture["right"] / 2) < ROOM)[None]
    at_side = (np.minimum(x, x[::-1]) < ROOM)[None], (np.minimum(y, y[::-1]) < ROOM)[:, None]
    free = ~(middle[0] & at_side[0] | middle[1] & at_side[1])
    assert free.mean() > 0.5, "this test would see nothing"
    return free


def sides_of(letters: list) -> str:
    """The letters at the left, right, upper and lower edge, which are the same in both panes."""
    found = []
    for pane in (0, 1):
        at = {}
        for _, text, x, y, align, baseline in [letter for letter in letters if letter[0] == pane]:
            assert min(abs(x - 0.5), abs(y - 0.5)) < 0.01, "in the middle of an edge"
            side = "left" if x < 0.1 else "right" if x > 0.9 else "top" if y < 0.1 else "bottom" if y > 0.9 else ""
            assert (align, baseline) == ((side, "middle") if x != 0.5 else ("center", side)), "inside of the pane"
            at[side] = text
        found.append("".join(at[side] for side in ("left", "right", "top", "bottom")))
    assert found[0] == found[1]
    assert len(letters) == 8
    return found[0]


def told_page(seen: CaseView) -> str:
    return page_of(seen, "run", "best.pt (epoch 3)", "It is a test case.", REGIONS, tuple(seen.images))


def with_a_region_apart(seen: CaseView) -> CaseView:
    """A first prediction whose inner region differs in most voxels of a slice, and the outer one in few of another."""
    there, predicted = seen.truth & 1 > 0, seen.truth.copy()
    predicted[5][there[5]] ^= 2
    predicted[8, :7] = 0
    first, *others = seen.predictions
    return seen._replace(predictions=[first._replace(voxels=predicted), *others])


@pytest.mark.parametrize("width", [1400, 400])
def test_the_page_draws_what_it_holds_and_answers(tmp_path: Path, width: int):
    seen = with_a_region_apart(made_up_view(spacing=(1.0, 1.0, 2.5)))
    told = answers_of(told_page(seen), tmp_path, width)
    assert (told["errors"], told["width"]) == ([], width)
    assert told["overflow"] <= 0, "no scrolling sideways"
    flair, first = seen.images["flair"], seen.predictions[0].voxels

    assert told["start"] == told["most"] == f"axial {3 + seen.start[2] + 1} of 15"
    assert told["labels"] == [
        "flair, axial 6 of 15, with the ground truth",
        "flair, axial 6 of 15, with the prediction from flair + t1ce",
    ]
    [[right, up], prediction] = told["sizes"]
    assert right == up == prediction[0] == int(right) >= 12, "whole pixels for each voxel"
    assert [text.split()[1] for text in told["keys"]] == ["7", "8", "7", "13", "4", "13"]
    assert [text.split()[1] for text in told["elsewhere"]] == ["13", "12", "12"], "the page scrolls, the slider goes"
    assert [text.split()[1] for text in told["wheel"]] == ["11", "11", "11", "13", "13"]

    x, y, z = seen.start
    grey = slices(flair, 2, z)
    assert np.array_equal(drawn(told["grey"])[..., 0], grey)
    colours = [rgb("#56B4E9"), rgb("#F0E442"), rgb("#D55E00")]
    for picture, one in zip(told["regions"], seen.predictions, strict=True):
        assert np.array_equal(drawn(picture), coloured(slices(one.voxels, 2, z), colours, grey))
    for picture, bits in zip(told["panes"], (seen.truth, seen.predictions[-1].voxels), strict=True):
        free = without_letters(picture)
        assert np.array_equal(drawn(picture)[free], coloured(slices(bits, 2, z), colours, grey)[free])
    assert [sides_of(letters) for letters in told["letters"]] == list(EDGES.values())
    assert told["coronalAt"] == f"coronal {2 + y + 1} of 19"
    for picture, one in zip(told["coronal"], seen.predictions, strict=True):
        bits = slices(one.voxels & 3, 1, y)  # the third region is switched off
        assert np.array_equal(drawn(picture), coloured(bits, colours, slices(flair, 1, y)))
        assert picture["up"] / picture["right"] == pytest.approx(2.5, rel=0.1), "voxels are 2.5 times as high"

    assert told["legend"]
    wrong = [rgb(code) for _, code in DIFFERENCES]
    there = slices(seen.truth & 3, 0, x) > 0
    for picture, one in zip(told["differences"], seen.predictions, strict=True):
        found = slices(one.voxels & 3, 0, x) > 0
        bits = (found & there) + 2 * (found & ~there) + 4 * (~found & there)
        assert np.array_equal(drawn(picture), coloured(bits, wrong, slices(flair, 0, x)))
    assert np.array_equal(drawn(told["contour"])[..., 0], slices(flair, 0, x)), "lines leave the middle of voxels free"

    differing = ((first & 3 > 0) != (seen.truth & 3 > 0)).sum(axis=(1, 2))
    assert differing.argmax() == 8 != ((first ^ seen.truth) & 3 > 0).sum(axis=(1, 2)).argmax()
    assert told["worst"] == "sagittal 10 of 17"
    assert told["noneDiffers"] == ["sagittal 11 of 17"] * 2, "no region is chosen: it stays where it is"
    assert told["chosen"] == ["flair", "WT 0.00 TC 0.00 ET 0.00"]
    assert told["pressed"] == ["true", "false", "false"]


@pytest.mark.parametrize(("width", "columns"), [(1400, 2), (400, 1)])
def test_a_wide_case_of_many_modalities_fits_and_unfolds(tmp_path: Path, width: int, columns: int):
    seen = made_up_view(shape=(260, 40, 40), modalities=("flair", "t1", "t1ce", "t2", "swi", "d" * 64))
    told = answers_of(told_page(seen), tmp_path, width, ASKED_OF_MANY)
    assert (told["errors"], told["width"], told["columns"]) == ([], width, columns)
    assert (told["overflow"], told["overflowOpened"]) == (0, 0), "no scrolling sideways"
    assert told["folded"] == 3, "those of two, three and four modalities"
    assert told["before"] == [300, 150], "as a canvas is made: not drawn"
    first = next(one for one in seen.predictions if len(one.subset) == 2)
    visible, z = slices(first.voxels, 2, seen.start[2]) > 0, seen.start[2]
    picture, grey = drawn(told["opened"]), slices(seen.images["flair"], 2, z)
    assert np.array_equal(picture[~visible], np.repeat(grey[~visible][:, None], 3, axis=-1))
    assert np.all(picture[visible].std(axis=-1) > 0), "coloured"


def test_a_damaged_page_says_so(tmp_path: Path):
    page = told_page(made_up_view())
    assert '<p id="trouble" role="alert" hidden="">' in dumped(page, tmp_path)
    damaged = re.sub('(id="truth">.{20})....', r"\1AAAA", page)
    assert re.search('<p id="trouble" role="alert">This page is damaged: .+</p>', dumped(damaged, tmp_path))
