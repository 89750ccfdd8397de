"use strict";
document.body.classList.add("scripted");

// The table of the subsets: a click on a heading sorts by it, best first, and another one turns it round.
for (const button of document.querySelectorAll(".heat thead button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const column = [...heading.parentElement.children].indexOf(heading);
    const before = heading.getAttribute("aria-sort");
    const first = heading.dataset.first;
    const order = before === null ? first : before === "ascending" ? "descending" : "ascending";
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    const body = heading.closest("table").tBodies[0];
    const value = (row) => parseFloat(row.cells[column].dataset.value ?? "NaN");
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y); // what nothing has stays at the end
      return order === "ascending" ? x - y : y - x;
    };
    body.append(...[...body.rows].sort(compare));
  });
}

// On paper nothing is folded, in a browser whose CSS cannot say so either.
const folded = document.querySelectorAll("details.folded:not([open])");
window.addEventListener("beforeprint", () => folded.forEach((part) => (part.dataset.open = part.open, part.open = true)));
window.addEventListener("afterprint", () => folded.forEach((part) => (part.open = part.dataset.open === "true")));

// Curves: what each line is at the place that is pointed at; of many lines those that are nearest to the pointer.
const MOST_READ = 12;
for (const frame of document.querySelectorAll(".frame")) {
  const ends = JSON.parse(frame.dataset.ends);
  const lines = [...frame.querySelectorAll("path[data-title]")].map((path) => ({
    title: path.dataset.title,
    colour: path.style.getPropertyValue("--colour"),
    points: [...path.getAttribute("d").matchAll(/[ML](-?\d+) (-?\d+)/g)].map((match) => [+match[1], +match[2]]),
  }));
  const cursor = Object.assign(document.createElement("div"), { className: "cursor", hidden: true });
  const reading = Object.assign(document.createElement("div"), { className: "reading", hidden: true });
  frame.append(cursor, reading);
  const hide = () => { cursor.hidden = reading.hidden = true; };
  frame.addEventListener("pointerleave", hide);
  frame.addEventListener("pointermove", (event) => {
    const box = frame.getBoundingClientRect();
    const at = (1000 * (event.clientX - box.left)) / box.width;
    if (at < 0 || at > 1000 || !lines.length) return hide();
    const nearest = lines.map((line) => line.points.reduce((a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a)));
    const step = ends.x[0] + (nearest[0][0] / 1000) * (ends.x[1] - ends.x[0]);
    reading.replaceChildren(`step ${Math.round(step)}`);
    const high = (1000 * (event.clientY - box.top)) / box.height;
    const away = (index) => Math.abs(nearest[index][1] - high);
    const read = lines.map((_, index) => index).sort((a, b) => away(a) - away(b)).slice(0, MOST_READ);
    for (const index of read.sort((a, b) => nearest[a][1] - nearest[b][1])) {
      const value = ends.y[1] - (nearest[index][1] / 1000) * (ends.y[1] - ends.y[0]);
      const row = document.createElement("div");
      const dot = Object.assign(document.createElement("span"), { textContent: "● " });
      dot.style.color = lines[index].colour;
      row.append(dot, `${lines[index].title} ${value.toPrecision(3)}`);
      reading.append(row);
    }
    if (lines.length > MOST_READ) reading.append(`and ${lines.length - MOST_READ} more lines`);
    cursor.hidden = reading.hidden = false;
    cursor.style.left = `${nearest[0][0] / 10}%`;
    const right = at > 500;
    reading.style.left = right ? "auto" : `calc(${at / 10}% + 1rem)`;
    reading.style.right = right ? `calc(${100 - at / 10}% + 1rem)` : "auto";
  });
}

// The cosines between the objectives: drawn once, then coloured anew for each place of the slider.
const source = document.getElementById("conflict-data");
if (source) showConflicts(JSON.parse(source.textContent));

function showConflicts({ names, when, frames, palette }) {
  const cells = drawMatrix(names);
  const [slider, told, play] = ["when", "told", "play"].map((id) => document.getElementById(id));
  const last = frames.length - 1;
  slider.max = last;
  const show = (place) => {
    slider.value = place;
    told.textContent = when[place];
    for (const { rect, tip, label, index, pair } of cells) {
      const cosine = index === null ? 100 : frames[place][index];
      const text = cosine === null ? "" : (cosine / 100).toFixed(2).replace("-", "−");
      rect.setAttribute("fill", cosine === null ? "#ccc" : palette[cosine + 100]);
      tip.textContent = `${pair}: ${text || "never met"}`;
      label.textContent = text.replace("0.", ".");
      label.style.fill = Math.abs(cosine) > 55 ? "#fff" : "#000";
    }
  };
  let timer = null;
  const pause = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
  const forward = () => (+slider.value < last ? show(+slider.value + 1) : pause());
  play.addEventListener("click", () => {
    if (timer) return pause();
    if (+slider.value === last) show(0);
    play.textContent = "Pause";
    timer = setInterval(forward, 250);
  });
  slider.addEventListener("input", () => { pause(); show(+slider.value); });
  const asked = /^#matrix=(\d+)$/.exec(location.hash); // a link to one matrix
  show(asked ? Math.min(+asked[1], last) : last);
}

// Returns the cells; `index`: which of a frame's numbers a cell shows, null on the diagonal.
function drawMatrix(names) {
  const count = names.length, numbers = count <= 20, size = numbers ? 26 : 14;
  const left = 7 + Math.max(...names.map((name) => 6.4 * name.length)), slanted = 0.72 * left, top = slanted + 12;
  const width = left + count * size + slanted, height = top + count * size;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  svg.style.maxWidth = `${1.4 * width}px`; // few objectives need no wall
  svg.style.minWidth = `${width}px`; // many have names to read
  svg.append(make("title", {}, "Cosines between the gradients of the objectives"));
  const cells = [];
  names.forEach((name, row) => {
    const middle = (row + 0.5) * size, place = `translate(${left + middle + 3} ${top - 5}) rotate(-45)`;
    svg.append(make("text", { class: "name", x: left - 5, y: top + middle + 3.5, "text-anchor": "end" }, name));
    svg.append(make("text", { class: "name", transform: place }, name));
    names.forEach((other, column) => {
      const [x, y] = [left + column * size, top + row * size];
      const rect = make("rect", { x: x + 0.5, y: y + 0.5, width: size - 1, height: size - 1, rx: 1.5 });
      const tip = rect.appendChild(make("title", {}));
      const label = make("text", { x: x + size / 2, y: y + size / 2 + 3, "text-anchor": "middle" });
      svg.append(rect, ...(numbers ? [label] : []));
      const [low, high] = [Math.min(row, column), Math.max(row, column)];
      const index = low === high ? null : low * count - (low * (low + 1)) / 2 + high - low - 1;
      cells.push({ rect, tip, label, index, pair: `${name}, ${other}` });
    });
  });
  document.getElementById("matrix").replaceChildren(svg);
  return cells;
}

function make(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}
