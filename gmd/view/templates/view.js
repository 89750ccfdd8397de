"use strict";
const about = JSON.parse(document.getElementById("about").textContent);
const [X, Y, Z] = about.shape;
const STRIDES = [Y * Z, Z, 1];
// which axis goes to the right, which one up, and which one is cut; what stands at the left, right, top and bottom edge
const PLANES = {
  axial: { right: 0, up: 1, through: 2, edges: "LRAP" },
  coronal: { right: 0, up: 2, through: 1, edges: "LRSI" },
  sagittal: { right: 1, up: 2, through: 0, edges: "PASI" },
};
const THUMBNAIL = [176, 240], PANE_HEIGHT = 0.7; // CSS pixels, across and up; share of the window
const controls = document.getElementById("controls");
const stage = document.getElementById("stage");
const slider = document.getElementById("slice");
const panes = ["truth-pane", "prediction-pane"].map((id) => document.querySelector(`#${id} canvas`));
const buttons = [...document.querySelectorAll(".subset")];
const state = { at: [...about.start], chosen: largest(), planned: false };

// The prediction from most modalities.
function largest() {
  const sizes = about.predictions.map((name) => name.split("+").length);
  return sizes.indexOf(Math.max(...sizes));
}

// What the controls say.
function settings() {
  const form = new FormData(controls);
  return {
    image: +form.get("image"),
    plane: PLANES[form.get("plane")],
    planeName: form.get("plane"),
    contour: form.get("style") === "contour",
    differences: form.get("mode") === "differences",
    opacity: form.get("opacity") / 100,
    visible: form.getAll("region").reduce((bits, region) => bits | (1 << region), 0),
  };
}

// Volumes: unpacked when they are first asked for; null until then.
const volumes = new Map();

function volume(id) {
  if (!volumes.has(id)) {
    volumes.set(id, null);
    unpack(id).then((voxels) => { volumes.set(id, voxels); plan(); }, tell);
  }
  return volumes.get(id);
}

async function unpack(id) {
  const letters = atob(document.getElementById(id).textContent);
  const packed = new Uint8Array(letters.length);
  for (let i = 0; i < packed.length; i++) packed[i] = letters.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const voxels = new Uint8Array(await new Response(stream).arrayBuffer());
  for (let i = 1; i < voxels.length; i++) if (i % Z) voxels[i] += voxels[i - 1];
  return voxels;
}

function tell(error) {
  const place = document.getElementById("trouble");
  const old = typeof DecompressionStream === "undefined";
  place.textContent = old ? "This browser is too old for this page: it needs one of 2023 or later." : `This page is damaged: ${error}`;
  place.hidden = false;
}

// A slice of a volume, row after row from the top.
function cut(voxels, plane, at) {
  const [width, height] = [about.shape[plane.right], about.shape[plane.up]];
  const slice = new Uint8Array(width * height);
  const [right, up] = [STRIDES[plane.right], STRIDES[plane.up]];
  for (let y = 0, i = 0; y < height; y++) {
    let from = at * STRIDES[plane.through] + (height - 1 - y) * up;
    for (let x = 0; x < width; x++, from += right) slice[i++] = voxels[from];
  }
  return slice;
}

// Bits of differences: 1 in both, 2 predicted only, 4 missed.
function differences(predicted, truth, visible) {
  return predicted.map((bits, i) => {
    const [found, there] = [bits & visible, truth[i] & visible];
    return found && there ? 1 : found ? 2 : there ? 4 : 0;
  });
}

// Device pixels of a voxel to the right and up, whole numbers: as many as fit into the room, which is in CSS pixels.
function scale(plane, roomWide, roomHigh) {
  const [right, up] = [about.spacing[plane.right], about.spacing[plane.up]];
  const least = Math.min(right, up), ratio = window.devicePixelRatio || 1;
  const wide = (roomWide * ratio * least) / (about.shape[plane.right] * right);
  const high = (roomHigh * ratio * least) / (about.shape[plane.up] * up);
  const times = Math.max(1, Math.floor(Math.min(wide, high)));
  return { right: Math.round((times * right) / least), up: Math.round((times * up) / least) };
}

// Draws an image under regions. grey, bits: slices, or null; colours: one for each bit; size: of `scale`
function paint(canvas, grey, bits, colours, size, set) {
  const [width, height] = [about.shape[set.plane.right], about.shape[set.plane.up]];
  const ratio = window.devicePixelRatio || 1;
  canvas.width = width * size.right;
  canvas.height = height * size.up;
  canvas.style.width = `${canvas.width / ratio}px`;
  canvas.style.height = `${canvas.height / ratio}px`;
  if (!grey) return;
  const small = Object.assign(document.createElement("canvas"), { width, height });
  const pixels = new ImageData(width, height);
  const filled = set.contour ? 0 : set.opacity;
  for (let i = 0; i < grey.length; i++) {
    const tint = filled && bits && bits[i] ? colours[31 - Math.clz32(bits[i])] : null;
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = tint ? (1 - filled) * grey[i] + filled * tint[c] : grey[i];
    pixels.data[4 * i + 3] = 255;
  }
  small.getContext("2d").putImageData(pixels, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  if (set.contour && bits) outline(context, bits, width, height, colours, size, set.opacity);
}

// The edges of each region, inside its outermost voxels.
function outline(context, bits, width, height, colours, size, opacity) {
  const thick = Math.max(1, Math.round(Math.min(size.right, size.up) / 3));
  context.globalAlpha = opacity;
  colours.forEach((colour, number) => {
    const bit = 1 << number;
    const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && bits[y * width + x] & bit;
    context.fillStyle = `rgb(${colour})`;
    context.beginPath();
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (!(bits[y * width + x] & bit)) continue;
        const [left, top] = [x * size.right, y * size.up];
        if (!inside(x - 1, y)) context.rect(left, top, thick, size.up);
        if (!inside(x + 1, y)) context.rect(left + size.right - thick, top, thick, size.up);
        if (!inside(x, y - 1)) context.rect(left, top, size.right, thick);
        if (!inside(x, y + 1)) context.rect(left, top + size.up - thick, size.right, thick);
      }
    }
    context.fill();
  });
  context.globalAlpha = 1;
}

const rgb = (code) => [1, 3, 5].map((from) => parseInt(code.slice(from, from + 2), 16));
const COLOURS = { regions: about.colours.map(rgb), differences: about.differences.map(rgb) };

// Draws all that is seen, soon: several reasons to draw make one drawing.
function plan() {
  if (state.planned) return;
  state.planned = true;
  requestAnimationFrame(() => { state.planned = false; draw(); });
}

function draw() {
  const set = settings(), at = state.at[set.plane.through];
  const part = (id) => { const voxels = volume(id); return voxels && cut(voxels, set.plane, at); };
  const visible = (slice) => slice && slice.map((bits) => bits & set.visible);
  const grey = part(`image-${set.image}`), truth = part("truth");
  const colours = set.differences ? COLOURS.differences : COLOURS.regions;
  const overlay = (place) => {
    const predicted = part(`prediction-${place}`);
    if (!set.differences) return visible(predicted);
    return predicted && truth && differences(predicted, truth, set.visible);
  };
  const size = fit(set.plane);
  paint(panes[0], grey, visible(truth), COLOURS.regions, size, set);
  paint(panes[1], grey, overlay(state.chosen), colours, size, set);
  panes.forEach((canvas) => letters(canvas, set.plane));
  const little = scale(set.plane, ...THUMBNAIL);
  for (const button of buttons) {
    if (!button.closest("details").open) continue;
    paint(button.querySelector("canvas"), grey, overlay(+button.dataset.place), colours, little, set);
  }
  say(set, at);
}

// The panes side by side where both have the room, else below each other; returns the size of their voxels.
function fit(plane) {
  const gap = 10, whole = stage.clientWidth, high = window.innerHeight * PANE_HEIGHT;
  const ratio = window.devicePixelRatio || 1, one = scale(plane, 0, 0);
  const narrow = (about.shape[plane.right] * one.right) / ratio > (whole - gap) / 2;
  stage.classList.toggle("one-column", narrow);
  return scale(plane, narrow ? whole : (whole - gap) / 2, narrow ? high / 2 : high);
}

// The directions, at the edges of a pane.
function letters(canvas, plane) {
  const context = canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
  const [width, height, room] = [canvas.width, canvas.height, 4 * ratio];
  const places = [
    [room, height / 2, "left", "middle"], [width - room, height / 2, "right", "middle"],
    [width / 2, room, "center", "top"], [width / 2, height - room, "center", "bottom"],
  ];
  context.font = `bold ${11 * ratio}px sans-serif`;
  places.forEach(([x, y, align, baseline], edge) => {
    Object.assign(context, { textAlign: align, textBaseline: baseline, lineWidth: 3 * ratio, strokeStyle: "#000", fillStyle: "#ddd" });
    context.strokeText(plane.edges[edge], x, y);
    context.fillText(plane.edges[edge], x, y);
  });
}

// Tells in words what is drawn.
function say(set, at) {
  const axis = set.plane.through, name = about.predictions[state.chosen].replaceAll("+", " + ");
  const where = `${set.planeName} ${about.origin[axis] + at + 1} of ${about.full[axis]}`;
  slider.max = about.shape[axis] - 1;
  slider.value = at;
  slider.setAttribute("aria-valuetext", where);
  document.getElementById("where").textContent = where;
  document.getElementById("legend").hidden = !set.differences;
  document.getElementById("chosen").textContent = name;
  const image = about.modalities[set.image];
  const over = set.differences ? "differences between the truth and the prediction" : "the prediction";
  panes[0].setAttribute("aria-label", `${image}, ${where}, with the ground truth`);
  panes[1].setAttribute("aria-label", `${image}, ${where}, with ${over} from ${name}`);
  for (const button of buttons) {
    const on = +button.dataset.place === state.chosen;
    button.setAttribute("aria-pressed", on);
    const dice = [...button.querySelectorAll(".dice > *")].flatMap((one) => [one.cloneNode(true), " "]);
    if (on) document.getElementById("score").replaceChildren(...dice);
  }
}

function go(to) {
  const axis = settings().plane.through;
  state.at[axis] = Math.min(Math.max(to, 0), about.shape[axis] - 1);
  plan();
}
const step = (by) => go(state.at[settings().plane.through] + by);

// The slice along the plane's axis with most voxels that differences draw as predicted only or missed; the one that is
// seen where there are none.
function worstSlice() {
  const set = settings(), axis = set.plane.through;
  const [truth, predicted] = [volume("truth"), volume(`prediction-${state.chosen}`)];
  if (!truth || !predicted) return state.at[axis];
  const wrong = new Array(about.shape[axis]).fill(0);
  differences(predicted, truth, set.visible).forEach((kind, i) => {
    if (kind > 1) wrong[Math.floor(i / STRIDES[axis]) % about.shape[axis]]++;
  });
  const most = Math.max(...wrong);
  return most ? wrong.indexOf(most) : state.at[axis];
}

const KEYS = {
  ArrowLeft: () => step(-1), ArrowRight: () => step(1), ArrowDown: () => step(-1), ArrowUp: () => step(1),
  PageDown: () => step(-10), PageUp: () => step(10), Home: () => go(0), End: () => go(Infinity),
};
document.addEventListener("keydown", (event) => {
  const sideways = ["ArrowLeft", "ArrowRight"].includes(event.key); // the others scroll the page, elsewhere
  const taken = event.ctrlKey || event.altKey || event.metaKey || event.target.closest?.("input");
  if (taken || !KEYS[event.key] || !(sideways || stage.contains(event.target))) return;
  event.preventDefault();
  KEYS[event.key]();
});

let turned = 0; // of the wheel, in pixels: pads send many small turns
stage.addEventListener("wheel", (event) => {
  if (event.ctrlKey) return; // that zooms
  event.preventDefault();
  turned += event.deltaY * (event.deltaMode ? 40 : 1);
  const steps = Math.trunc(turned / 40);
  turned -= 40 * steps;
  if (steps) step(-steps);
}, { passive: false });

slider.addEventListener("input", () => go(+slider.value));
controls.addEventListener("input", plan);
controls.addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("resize", plan);
document.getElementById("most").addEventListener("click", () => go(about.start[settings().plane.through]));
document.getElementById("worst").addEventListener("click", () => go(worstSlice()));
for (const button of buttons) button.addEventListener("click", () => { state.chosen = +button.dataset.place; plan(); });
for (const group of document.querySelectorAll("details")) group.addEventListener("toggle", plan);
plan();
