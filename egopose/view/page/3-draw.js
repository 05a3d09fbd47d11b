// What is on the canvas. Everything that a test wants to know is kept in `drawn`.
const state = {
  frame: 0, playing: false, speed: 1, follow: false, colour: scene.colours[0], bars: 1, selected: null, hovered: null,
  show: { bars: true, cameras: true, reference: true, trail: true, floor: true, names: false, hands: true, apart: true, rival: true },
};
let drawn = [];

const SIDES = { left: "#0072b2", right: "#d55e00", middle: "#4a4f57" };
const STATUS_COLOURS = ["#1a7f4b", "#0072b2", "#b07d00", "#8a8f98", "#8a8f98", "#9b4fb0", "#cc3d63"];
const REFERENCE = "#7d8794";
// dark blue to magenta to orange: order survives a grey print and colour blindness
const RAMP = [[13, 8, 135], [92, 1, 166], [156, 23, 158], [203, 70, 121], [237, 121, 83], [253, 174, 50]];

function ramp(value) {
  const x = Math.max(0, Math.min(1, value)) * (RAMP.length - 1), i = Math.min(RAMP.length - 2, Math.floor(x));
  return `rgb(${RAMP[i].map((c, k) => Math.round(c + (x - i) * (RAMP[i + 1][k] - c))).join(",")})`;
}

function colourOf(body, frame, joint) {
  if (body.reference) return REFERENCE;
  if (state.colour === "status") return STATUS_COLOURS[body.status[frame * body.joints.length + joint]];
  if (state.colour === "side") return SIDES[body.sides[joint]];
  const value = state.colour === "error" ? errorOf(body, frame, joint) : sigmaOf(body, frame, joint);
  return value === null ? "#a9b0b9" : ramp(value / scene.ramps[state.colour]);
}

function line(points, colour, thick, dash) {
  pen.beginPath();
  points.forEach((p, i) => (i ? pen.lineTo(p[0], p[1]) : pen.moveTo(p[0], p[1])));
  pen.strokeStyle = colour;
  pen.lineWidth = thick;
  pen.setLineDash(dash || []);
  pen.stroke();
}

function segment(p, q, colour, thick, dash) {
  const ends = projectSegment(p, q);
  if (ends) line(ends, colour, thick, dash);
}

function label(text, p, colour, dy = 0) {
  const at = project(p);
  if (!at) return;
  pen.font = "12px system-ui, sans-serif";
  pen.lineJoin = "round";
  pen.lineWidth = 3;
  pen.setLineDash([]);
  pen.strokeStyle = "rgba(255,255,255,.9)";
  const wide = pen.measureText(text).width, x = at[0] + 11 + wide > width ? at[0] - 7 - wide : at[0] + 7;
  pen.strokeText(text, x, at[1] - 5 + dy);
  pen.fillStyle = colour;
  pen.fillText(text, x, at[1] - 5 + dy);
}

function drawFloor() {
  const g = scene.floor;
  for (let i = 0; i <= g.nx; i++) {
    const x = g.x0 + i * g.step;
    segment([x, g.y0, g.z], [x, g.y0 + g.ny * g.step, g.z], "#e3e7eb", 1);
  }
  for (let i = 0; i <= g.ny; i++) {
    const y = g.y0 + i * g.step;
    segment([g.x0, y, g.z], [g.x0 + g.nx * g.step, y, g.z], "#e3e7eb", 1);
  }
  const o = [g.x0, g.y0, g.z], names = scene.axis_names;
  [[g.step, 0, 0, "#b3261e"], [0, g.step, 0, "#2e7d32"], [0, 0, g.step, "#1f4fbf"]].forEach(([x, y, z, colour], k) => {
    const tip = [o[0] + x, o[1] + y, o[2] + z];
    segment(o, tip, colour, 2);
    label(names[k], tip, colour);
  });
}

function drawCameras() {
  for (const camera of scene.cameras) {
    for (let i = 0; i < camera.corners.length; i++) {
      segment(camera.corners[i], camera.corners[(i + 1) % camera.corners.length], "#5a6675", 1.2);
      if (i % (camera.corners.length / 4) === 0) segment(camera.centre, camera.corners[i], "#5a6675", 1.2);
    }
    label(camera.name, camera.centre, "#3b4552");
  }
}

function drawPath() {
  const path = scene.path;
  if (!path) return;
  for (let i = 1; i < path.points.length; i++) segment(path.points[i - 1], path.points[i], "#9fb7cc", 1.5);
  const head = path.heads[state.frame];
  if (!head) return;
  const o = head.slice(0, 3);
  ["#b3261e", "#2e7d32", "#1f4fbf"].forEach((colour, k) => {
    segment(o, o.map((c, i) => c + path.size * head[3 + 3 * k + i]), colour, 2.5);
  });
  label(path.name, o, "#3b4552", -8);
}

function hidden(body, joint) {
  return !state.show.hands && body.joints[joint].includes("_hand_");
}

// Two runs stand side by side on the screen, or in one place; a reference stands with each of them.
const isApart = () => rival !== null && state.show.rival && state.show.apart;
const shifted = (p, by) => (p && by ? p.map((c, k) => c + by[k]) : p);
const aside = (sign) => axes.right.map((c) => sign * 0.5 * scene.apart * c);
const shiftOf = (body) => (isApart() ? aside(body.rival ? 1 : -1) : null);
const shiftsOf = (body) => (!isApart() ? [null] : body.reference ? [aside(-1), aside(1)] : [shiftOf(body)]);

function mark(at, size, square) {
  pen.beginPath();
  square ? pen.rect(at[0] - 0.9 * size, at[1] - 0.9 * size, 1.8 * size, 1.8 * size) : pen.arc(at[0], at[1], size, 0, 2 * Math.PI);
}

function drawBodies() {
  const items = [];
  scene.bodies.forEach((body, b) => {
    if (body.reference ? !state.show.reference : body.rival && !state.show.rival) return;
    shiftsOf(body).forEach((by, k) => drawBody(items, body, k ? -1 : b, by));
  });
  items.sort((a, b) => b[0] - a[0]).forEach(([, paint]) => paint());
}

function drawBody(items, body, b, by) {
  const places = body.joints.map((_, j) => (hidden(body, j) ? null : shifted(place(body, state.frame, j), by)));
  const screen = places.map((p) => (p ? project(p) : null));
  const fine = (j) => body.fine[j] ? 0.5 : 1;
  for (const [i, j] of body.bones) {
    if (!screen[i] || !screen[j]) continue;
    const thick = (body.reference ? 1.6 : 3.2) * Math.min(fine(i), fine(j));
    items.push([Math.max(screen[i][2], screen[j][2]) + 0.001, () => {
      if (body.reference) return line([screen[i], screen[j]], REFERENCE, thick, [5, 3]);
      const middle = [(screen[i][0] + screen[j][0]) / 2, (screen[i][1] + screen[j][1]) / 2];
      pen.lineCap = "round";
      line([screen[i], middle], colourOf(body, state.frame, i), thick);
      line([middle, screen[j]], colourOf(body, state.frame, j), thick);
      pen.lineCap = "butt";
    }]);
  }
  screen.forEach((at, j) => {
    if (!at) return;
    if (b >= 0) drawn.push({ body: b, joint: j, x: at[0], y: at[1] });
    const colour = colourOf(body, state.frame, j), size = (body.reference ? 2.6 : 4) * (body.fine[j] ? 0.6 : 1);
    const L = state.show.bars && !body.reference ? factorOf(body, state.frame, j) : null;
    if (L) {
      const ellipse = projectEllipsoid(places[j], L);
      if (ellipse && ellipse[0] * state.bars > 0.5) items.push([at[2] + 0.002, () => {
        pen.beginPath();
        pen.ellipse(at[0], at[1], ellipse[0] * state.bars, ellipse[1] * state.bars, ellipse[2], 0, 2 * Math.PI);
        pen.globalAlpha = 0.16;
        pen.fillStyle = colour;
        pen.fill();
        pen.globalAlpha = 0.6;
        pen.strokeStyle = colour;
        pen.lineWidth = 1;
        pen.setLineDash([]);
        pen.stroke();
        pen.globalAlpha = 1;
      }]);
    }
    items.push([at[2], () => {
      mark(at, size, body.rival);
      const weak = !body.reference && body.status[state.frame * body.joints.length + j] !== 0;
      pen.fillStyle = weak ? "#ffffff" : colour;
      pen.fill();
      pen.setLineDash([]);
      pen.strokeStyle = weak ? colour : "rgba(255,255,255,.8)";
      pen.lineWidth = weak ? 1.8 : 0.8;
      pen.stroke();
    }]);
  });
  const target = body.target === null ? null : scene.bodies[body.target];
  // lines from each joint to where it should be; between two runs only where they share the place
  const lines = target && (target.reference ? state.show.reference : !body.rival && state.show.rival && !isApart());
  if (lines && state.colour === "error") {
    places.forEach((p, j) => {
      const k = body.partner[j], q = p && k >= 0 ? shifted(place(target, state.frame, k), target.reference ? by : shiftOf(target)) : null;
      if (q) segment(p, q, "rgba(60,60,60,.45)", 1, [2, 2]);
    });
  }
  if (state.show.names && !body.reference) {
    places.forEach((p, j) => { if (p && !body.fine[j]) items.push([0, () => label(body.joints[j], p, "#3b4552")]); });
  }
  if (rival && isApart() && !body.reference) {
    const top = places.reduce((best, p) => (p && (!best || p[2] > best[2]) ? p : best), null);
    if (top) items.push([-1, () => label(body.name, top, "#1c2430", -12)]);
  }
}

function drawSelected() {
  const chosen = state.selected;
  if (!chosen) return;
  const body = scene.bodies[chosen.body], by = shiftOf(body), here = shifted(place(body, state.frame, chosen.joint), by);
  if (state.show.trail) {
    for (let f = Math.max(1, state.frame - scene.trail_frames); f <= state.frame; f++) {
      const p = shifted(place(body, f - 1, chosen.joint), by), q = shifted(place(body, f, chosen.joint), by);
      if (p && q) segment(p, q, "rgba(28,36,48,.55)", 1.4);
    }
  }
  const at = here && project(here);
  if (!at) return;
  pen.beginPath();
  pen.arc(at[0], at[1], 8, 0, 2 * Math.PI);
  pen.strokeStyle = "#1c2430";
  pen.lineWidth = 1.4;
  pen.setLineDash([]);
  pen.stroke();
  if (!state.show.names || body.fine[chosen.joint]) label(body.joints[chosen.joint], here, "#1c2430", -4);
}

function bodyMiddle(frame) {
  const o = scene.bodies[0].origin, at = frame * 4;
  return Number.isFinite(o[at]) ? [o[at], o[at + 1], o[at + 2]] : null;
}

let followed = null;
function draw() {
  const ratio = Math.min(window.devicePixelRatio || 1, 2), box = canvas.getBoundingClientRect();
  width = Math.max(1, box.width);
  height = Math.max(1, box.height);
  headroom = Math.min(0.3 * height, document.querySelector("header").offsetHeight + 8);
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const middle = bodyMiddle(state.frame);
  // following keeps the view's offset from the body, so that fitting and following agree
  if (state.follow && middle && followed) eye.target = eye.target.map((c, k) => c + middle[k] - followed[k]);
  followed = middle || followed;
  updateAxes();
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  drawn = [];
  if (state.show.floor) drawFloor();
  if (state.show.cameras) drawCameras();
  if (state.show.trail) drawPath();
  drawBodies();
  drawSelected();
}

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}
