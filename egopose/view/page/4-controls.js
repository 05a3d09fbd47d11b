// Controls around the canvas. Text reaches the page through textContent only.
const find = (id) => document.getElementById(id);
const slider = find("slider"), clock = find("clock"), strip = find("strip"), tip = find("tip"), clip = find("clip");

function make(tag, parent, text, kind) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  if (parent) parent.appendChild(element);
  return element;
}

function swatch(parent, style) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const add = (tag, values) => {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", tag);
    Object.entries(values).forEach(([key, value]) => shape.setAttribute(key, value));
    svg.appendChild(shape);
  };
  svg.setAttribute("width", 26);
  svg.setAttribute("height", 14);
  if (style.line) add("line", { x1: 1, x2: 25, y1: 7, y2: 7, stroke: style.line, "stroke-width": 3, "stroke-dasharray": style.dash || "" });
  if (style.dot) add("circle", { cx: 13, cy: 7, r: 4, fill: style.hollow ? "#fff" : style.dot, stroke: style.dot, "stroke-width": 1.8 });
  if (style.square) add("rect", { x: 9, y: 3, width: 8, height: 8, fill: style.square });
  if (style.ellipse) add("ellipse", { cx: 13, cy: 7, rx: 11, ry: 5, fill: style.ellipse, "fill-opacity": 0.16, stroke: style.ellipse });
  parent.appendChild(svg);
}

function legend() {
  const box = find("legend"), body = scene.bodies[0];
  box.replaceChildren();
  const item = (style, text, count) => {
    const row = make("div", box, undefined, "item");
    swatch(row, style);
    make("span", row, text);
    if (count !== undefined) make("span", row, count, "count");
  };
  if (state.colour === "side") {
    const has = new Set(body.sides);
    for (const side of ["left", "right", "middle"]) if (has.has(side)) item({ line: SIDES[side], dot: SIDES[side] }, side === "middle" ? "no side" : side);
  } else if (state.colour === "error" || state.colour === "sigma") {
    make("div", box, state.colour === "error" ? reference ? "distance to the reference" : "distance between the runs" : "error bar of the joint (1 sigma)");
    make("div", box, undefined, "ramp").style.background = `linear-gradient(90deg, ${[0, 1, 2, 3, 4, 5].map((k) => ramp(k / 5)).join(",")})`;
    const ends = make("div", box, undefined, "ends");
    make("span", ends, "0");
    make("span", ends, millimetres(scene.ramps[state.colour]) + " and more");
  }
  const counts = new Array(scene.statuses.length).fill(0), n = body.joints.length;
  for (let j = 0; j < n; j++) counts[body.status[state.frame * n + j]]++;
  scene.statuses.forEach((name, s) => {
    if (!body.status_used[s]) return;
    const colour = state.colour === "status" ? STATUS_COLOURS[s] : "#4a4f57";
    item(scene.without_point.includes(s) ? {} : { dot: colour, hollow: s > 0 }, name, `${counts[s]} of ${n}`);
  });
  if (body.sigma || body.factor) item({ ellipse: "#4a4f57" }, `error bar, ${state.bars} sigma`);
  if (rival) {
    item({ dot: "#4a4f57" }, body.name);
    item({ square: "#4a4f57" }, rival.name);
  }
  if (reference) item({ line: REFERENCE, dash: "5 3" }, reference.name);
  if (scene.path) item({ line: "#9fb7cc" }, `path of the ${scene.path.name}`);
  make("div", box, `grid: ${scene.floor.step} m, ${scene.floor.what}`).style.color = "var(--soft)";
}

function frameMean(body, frame) {
  let sum = 0, count = 0;
  for (let j = 0; j < body.joints.length; j++) {
    const value = body.target !== null ? errorOf(body, frame, j) : sigmaOf(body, frame, j);
    if (value !== null) { sum += value; count++; }
  }
  return count ? sum / count : null;
}
const means = Array.from({ length: frameCount }, (_, f) => frameMean(scene.bodies[0], f));
// without a reference the errors of the two runs are the same distances
const rivalMeans = rival && reference ? Array.from({ length: frameCount }, (_, f) => frameMean(rival, f)) : null;
const unknown = Array.from({ length: frameCount }, (_, f) => {
  const body = scene.bodies[0], n = body.joints.length;
  let missing = 0;
  for (let j = 0; j < n; j++) if (body.xyz[(f * n + j) * 3] === ABSENT) missing++;
  return missing / n;
});
const meanName = scene.bodies.length > 1 ? (rival && !reference ? "mean distance" : "mean error") : "mean sigma";
const sorted = [...means, ...(rivalMeans || [])].filter((m) => m !== null).sort((a, b) => a - b);
const meanTop = sorted[Math.floor(0.98 * (sorted.length - 1))] || 0;

function drawStrip() {
  const ratio = Math.min(window.devicePixelRatio || 1, 2), w = strip.clientWidth, h = strip.clientHeight, g = strip.getContext("2d");
  strip.width = w * ratio;
  strip.height = h * ratio;
  g.scale(ratio, ratio);
  const inset = 8, X = (f) => inset + ((w - 2 * inset) * f) / Math.max(1, frameCount - 1);
  const wide = Math.max(1, (w - 2 * inset) / frameCount + 0.5);
  unknown.forEach((share, f) => {
    if (!share) return;
    g.fillStyle = "#c9ced6";
    g.fillRect(X(f) - wide / 2, 14, wide, (h - 15) * share);
  });
  // one point per pixel: the mean of the frames that share it
  const group = Math.max(1, Math.floor(frameCount / Math.max(1, w - 2 * inset)));
  for (const [values, colour] of [[rivalMeans, RIVAL], [means, "#a8326f"]]) {
    if (!values) continue;
    g.beginPath();
    let open = false;
    for (let f = 0; f < frameCount; f += group) {
      const some = values.slice(f, f + group).filter((m) => m !== null);
      if (!some.length) { open = false; continue; }
      const m = some.reduce((sum, v) => sum + v, 0) / some.length, x = X(Math.min(frameCount - 1, f + (group - 1) / 2));
      const y = h - 1 - (h - 16) * Math.min(1, m / (meanTop * 1.05 || 1));
      open ? g.lineTo(x, y) : g.moveTo(x, y);
      open = true;
    }
    g.strokeStyle = colour;
    g.lineWidth = 1.3;
    g.stroke();
  }
  g.fillStyle = "#1c2430";
  g.fillRect(X(state.frame) - 0.75, 13, 1.5, h - 13);
  g.font = "11px system-ui, sans-serif";
  g.fillStyle = "#a8326f";
  const m = means[state.frame];
  let x = inset;
  if (means.some((v) => v !== null)) {
    const text = `${rivalMeans ? scene.bodies[0].name.slice(0, 24) : meanName} ${millimetres(m)}`;
    g.fillText(text, x, 10);
    x += g.measureText(text).width + 14;
  }
  if (rivalMeans) {
    const text = `${rival.name.slice(0, 24)} ${millimetres(rivalMeans[state.frame])}`;
    g.fillStyle = RIVAL;
    g.fillText(text, x, 10);
    x += g.measureText(text).width + 14;
  }
  if (unknown.some((v) => v > 0)) {
    g.fillStyle = "#5a6675";
    g.fillText(`not known ${(100 * unknown[state.frame]).toFixed(0)} % (grey)`, x, 10);
  }
}

const RIVAL = "#1f6f9f";
const rivalJoint = rival ? scene.bodies[0].joints.map((name) => rival.joints.indexOf(name)) : [];
let tableTime = 0;
function jointTable(force) {
  const body = scene.bodies[0];
  if (!find("joints-box").open || (!force && state.playing && performance.now() - tableTime < 250)) return;
  tableTime = performance.now();
  const rows = find("joints").tBodies[0];
  body.joints.forEach((name, j) => {
    const row = rows.rows[j], s = body.status[state.frame * body.joints.length + j];
    row.cells[1].textContent = scene.statuses[s];
    row.cells[1].style.color = STATUS_COLOURS[s];
    row.cells[2].textContent = millimetres(sigmaOf(body, state.frame, j));
    if (row.cells[3]) row.cells[3].textContent = millimetres(errorOf(body, state.frame, j));
    if (row.cells[4]) row.cells[4].textContent = rivalJoint[j] < 0 ? millimetres(null) : millimetres(errorOf(rival, state.frame, rivalJoint[j]));
    row.classList.toggle("on", state.selected !== null && state.selected.body === 0 && state.selected.joint === j);
  });
}

function describe({ body: b, joint }) {
  const body = scene.bodies[b], p = place(body, state.frame, joint), lines = [`${body.joints[joint]}${body.reference || rival ? ` (${body.name})` : ""}`];
  lines.push(`status  ${scene.statuses[body.status[state.frame * body.joints.length + joint]]}`);
  if (p) lines.push(`at      ${scene.to_file.map((row) => (row[0] * p[0] + row[1] * p[1] + row[2] * p[2] + row[3]).toFixed(3)).join("  ")} m`);
  const s = sigmaOf(body, state.frame, joint), e = errorOf(body, state.frame, joint);
  if (s !== null) lines.push(`sigma   ${millimetres(s)}`);
  if (e !== null) lines.push(`error   ${millimetres(e)}`);
  return lines.join("\n");
}

function nearest(x, y) {
  let best = null, limit = 14;
  for (const d of drawn) {
    const distance = Math.hypot(d.x - x, d.y - y) + (scene.bodies[d.body].reference ? 2 : 0);
    if (distance < limit) [best, limit] = [d, distance];
  }
  return best;
}

function showTip(found, x, y) {
  tip.hidden = !found;
  if (!found) return;
  tip.textContent = describe(found);
  tip.style.left = Math.min(x + 14, Math.max(0, width - tip.offsetWidth - 4)) + "px";
  tip.style.top = Math.min(y + 14, Math.max(0, height - tip.offsetHeight - 4)) + "px";
}
function hover(x, y) { showTip(nearest(x, y), x, y); }
function pick(x, y) {
  const found = nearest(x, y);
  state.selected = found ? { body: found.body, joint: found.joint } : null;
  showTip(found, x, y);
  jointTable(true);
  redraw();
}
canvas.addEventListener("pointerleave", () => { tip.hidden = true; });

let keep = 0;
function setFrame(frame, fromPlay) {
  state.frame = Math.max(0, Math.min(frameCount - 1, Math.round(frame)));
  slider.value = state.frame;
  const t = scene.times_s[state.frame];
  clock.textContent = `frame ${scene.frames[state.frame]}\n${t.toFixed(3)} s, ${state.frame + 1}/${frameCount}`;
  slider.setAttribute("aria-valuetext", `frame ${scene.frames[state.frame]}, ${t.toFixed(2)} seconds`);
  if (scene.clip && !(fromPlay && !clip.paused && Math.abs(clip.currentTime - (t - scene.clip.start_s)) < 0.15)) {
    clip.currentTime = Math.max(0, t - scene.clip.start_s + 1e-3);
  }
  tip.hidden = true;
  clearTimeout(keep);
  // the address names the frame, so that a link can point at it
  keep = setTimeout(() => { try { history.replaceState(null, "", `#frame=${scene.frames[state.frame]}`); } catch { /* not from disk */ } }, 300);
  legend();
  jointTable(false);
  drawStrip();
  redraw();
}

let started = 0, startedAt = 0;
function play(on) {
  state.playing = on;
  find("play").textContent = on ? "\u275a\u275a" : "\u25b6";
  if (on && state.frame === frameCount - 1) setFrame(0);
  started = performance.now();
  startedAt = scene.times_s[state.frame];
  if (scene.clip) { clip.playbackRate = state.speed; on ? clip.play().catch(() => {}) : clip.pause(); }
  if (on) requestAnimationFrame(tick);
}
function tick(now) {
  if (!state.playing) return;
  const t = startedAt + ((now - started) / 1000) * state.speed;
  let f = state.frame;
  while (f + 1 < frameCount && scene.times_s[f + 1] <= t) f++;
  if (f !== state.frame) setFrame(f, true);
  f === frameCount - 1 ? play(false) : requestAnimationFrame(tick);
}

function follow(on) {
  state.follow = on;
  find("toggles").querySelector('[data-key="follow"]').checked = on;
}

function begin() {
  find("title").textContent = scene.title;
  find("subtitle").textContent = scene.subtitle;
  slider.max = frameCount - 1;
  const toggle = (key, text, target = state.show) => {
    const box = make("label", find("toggles")), input = make("input", box);
    input.type = "checkbox";
    input.checked = target[key];
    input.dataset.key = key;
    box.append(text);
    input.addEventListener("change", () => {
      target[key] = input.checked;
      if (key === "apart") fitBody();
      redraw();
    });
  };
  if (scene.bodies.some((b) => b.sigma || b.factor)) toggle("bars", "error bars");
  else find("bars").parentElement.hidden = true;
  if (reference) toggle("reference", reference.name);
  if (rival) {
    toggle("rival", rival.name);
    toggle("apart", "side by side");
  }
  if (scene.cameras.length) toggle("cameras", "cameras");
  toggle("trail", scene.path ? "path, trail" : "trail");
  toggle("floor", "floor");
  if (scene.bodies[0].joints.some((j) => j.includes("_hand_"))) toggle("hands", "hands");
  toggle("names", "joint names");
  state.follow = scene.follow;
  toggle("follow", "follow", state);
  for (const kind of scene.colours) make("option", find("colour"), kind).value = kind;
  find("colour").addEventListener("change", (e) => { state.colour = e.target.value; legend(); redraw(); });
  find("bars").addEventListener("change", (e) => { state.bars = Number(e.target.value); legend(); redraw(); });
  const button = (text, act) => make("button", find("views"), text).addEventListener("click", () => { act(); redraw(); });
  button("whole scene", () => { follow(false); fitAll(false); });
  button("body", () => { follow(true); fitBody(); });
  if (scene.cameras.length) {
    const pickCamera = make("select", find("views"));
    pickCamera.setAttribute("aria-label", "look from a camera");
    make("option", pickCamera, "from camera").value = "";
    scene.cameras.forEach((c, i) => { make("option", pickCamera, c.name).value = i; });
    pickCamera.addEventListener("change", () => { if (pickCamera.value !== "") { follow(false); lookFrom(scene.cameras[pickCamera.value]); redraw(); } });
  }
  const head = make("tr", find("joints").tHead);
  ["joint", "status", "sigma", ...(scene.bodies.length > 1 ? ["error"] : []), ...(rivalMeans ? [`error of ${rival.name}`] : [])].forEach((t, i) => make("th", head, t, i > 1 ? "n" : ""));
  scene.bodies[0].joints.forEach((name, j) => {
    const row = make("tr", find("joints").tBodies[0]);
    make("td", row, name);
    make("td", row, "");
    make("td", row, "", "n");
    if (scene.bodies.length > 1) make("td", row, "", "n");
    if (rivalMeans) make("td", row, "", "n");
    row.addEventListener("click", () => { state.selected = { body: 0, joint: j }; jointTable(true); redraw(); });
  });
  scene.notes.forEach((note) => make("li", find("notes"), note));
  if (scene.clip) {
    find("clip-box").hidden = false;
    const bytes = atob(scene.clip.source), data = new Uint8Array(bytes.length);
    for (let i = 0; i < bytes.length; i++) data[i] = bytes.charCodeAt(i);
    clip.src = URL.createObjectURL(new Blob([data], { type: "video/mp4" }));
  }
  slider.addEventListener("input", () => { play(false); setFrame(Number(slider.value)); });
  find("play").addEventListener("click", () => play(!state.playing));
  find("speed").addEventListener("change", (e) => { state.speed = Number(e.target.value); play(state.playing); });
  find("joints-box").addEventListener("toggle", () => jointTable(true));
  window.addEventListener("keydown", (event) => {
    if (["INPUT", "SELECT", "SUMMARY", "BUTTON"].includes(event.target.tagName) && event.key === " ") return;
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (event.key === " ") { event.preventDefault(); play(!state.playing); }
    else if (step && event.target !== slider && event.target.tagName !== "SELECT") { event.preventDefault(); play(false); setFrame(state.frame + step); }
  });
  const goTo = () => {
    const asked = /frame=(-?\d+)/.exec(location.hash);
    if (asked) setFrame(nearestFrame(Number(asked[1])));
  };
  window.addEventListener("hashchange", goTo);
  window.addEventListener("resize", () => { drawStrip(); redraw(); });
  if (window.innerWidth <= 760) find("show-box").open = false;
  setFrame(0);
  goTo();
  draw();
  if (window.innerWidth > 760 && !state.follow) fitAll(true);
  else { follow(true); fitBody(); }
  draw();
  document.body.dataset.ready = "yes";
}
begin();
window.egoposeViewer = { state, eye, setFrame, drawn: () => drawn, redraw: draw };
