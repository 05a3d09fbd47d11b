// The viewer's own eye: turns around a target, z up.
const eye = { target: [0, 0, 0], yaw: -0.9, pitch: 0.28, distance: 5, fov: 0.7 };
const canvas = document.getElementById("scene"), pen = canvas.getContext("2d");
let width = 1, height = 1, headroom = 0, axes = null;

function updateAxes() {
  const cy = Math.cos(eye.yaw), sy = Math.sin(eye.yaw), cp = Math.cos(eye.pitch), sp = Math.sin(eye.pitch);
  const forward = [-cy * cp, -sy * cp, -sp], right = [-sy, cy, 0], up = [-cy * sp, -sy * sp, cp];
  axes = {
    right, up, forward, focal: (0.5 * Math.min(height - headroom, width * 1.25)) / Math.tan(eye.fov / 2),
    from: eye.target.map((c, k) => c - forward[k] * eye.distance),
  };
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const NEAR = 0.02;

function eyeSpace(p) {
  const d = [p[0] - axes.from[0], p[1] - axes.from[1], p[2] - axes.from[2]];
  return [dot(d, axes.right), dot(d, axes.up), dot(d, axes.forward)];
}

function toScreen(e) {
  return [width / 2 + (axes.focal * e[0]) / e[2], (height + headroom) / 2 - (axes.focal * e[1]) / e[2], e[2]];
}

// Screen x, y and depth of a point, or null behind the eye.
function project(p) {
  const e = eyeSpace(p);
  return e[2] > NEAR ? toScreen(e) : null;
}

// Both ends of a segment on the screen, cut at the near plane.
function projectSegment(p, q) {
  let a = eyeSpace(p), b = eyeSpace(q);
  if (a[2] <= NEAR && b[2] <= NEAR) return null;
  const cut = (inside, outside) => {
    const t = (inside[2] - NEAR) / (inside[2] - outside[2]);
    return inside.map((x, k) => x + t * (outside[k] - x));
  };
  if (a[2] <= NEAR) a = cut(b, a);
  else if (b[2] <= NEAR) b = cut(a, b);
  return [toScreen(a), toScreen(b)];
}

// Axes of the ellipse that an ellipsoid L L^T (one sigma) makes on the screen, in pixels: [long, short, angle].
function projectEllipsoid(p, L) {
  const e = eyeSpace(p);
  if (e[2] <= NEAR) return null;
  const s = axes.focal / e[2];
  const du = axes.right.map((r, k) => s * (r - (e[0] / e[2]) * axes.forward[k]));
  const dv = axes.up.map((r, k) => -s * (r - (e[1] / e[2]) * axes.forward[k]));
  const through = (d) => [d[0] * L[0] + d[1] * L[1] + d[2] * L[3], d[1] * L[2] + d[2] * L[4], d[2] * L[5]];
  const a = through(du), b = through(dv), aa = dot(a, a), bb = dot(b, b), ab = dot(a, b);
  const half = (aa + bb) / 2, spread = Math.hypot((aa - bb) / 2, ab);
  return [Math.sqrt(half + spread), Math.sqrt(Math.max(half - spread, 0)), 0.5 * Math.atan2(2 * ab, aa - bb)];
}

// The closest view from the present direction that holds a set of points, with room for the heading.
function fit(points) {
  const low = [0, 1, 2].map((k) => Math.min(...points.map((p) => p[k])));
  const high = [0, 1, 2].map((k) => Math.max(...points.map((p) => p[k])));
  eye.target = low.map((c, k) => (c + high[k]) / 2);
  const holds = (distance) => {
    eye.distance = distance;
    updateAxes();
    return points.every((p) => {
      const at = project(p);
      return at && Math.abs(at[0] - width / 2) < 0.46 * width && at[1] > headroom + 14 && at[1] < height - 34;
    });
  };
  let near = 0.1, far = 1e4;
  for (let i = 0; i < 40; i++) holds(Math.sqrt(near * far)) ? (far = Math.sqrt(near * far)) : (near = Math.sqrt(near * far));
  eye.distance = far;
  updateAxes();
}

function corners(box) {
  return [0, 1, 2, 3, 4, 5, 6, 7].map((i) => [0, 1, 2].map((k) => box[(i >> k) & 1][k]));
}

// Every camera, the path and the room that the body uses, from the side where they take the least room.
function fitAll(turn) {
  const points = corners(scene.body_box).flatMap((p) => scene.bodies.flatMap(shiftsOf).map((by) => shifted(p, by)));
  scene.cameras.forEach((c) => points.push(c.centre, ...c.corners));
  if (scene.path) points.push(...scene.path.points);
  let best = eye.yaw, nearest = Infinity;
  for (let k = 0; turn && k < 24; k++) {
    eye.yaw = -0.9 + (k * Math.PI) / 12;
    fit(points);
    const body = project(scene.body_box[0].map((c, i) => (c + scene.body_box[1][i]) / 2));
    const before = scene.cameras.filter((c) => {
      const at = project(c.centre);
      return at && body && at[2] < body[2] && Math.abs(at[0] - body[0]) < 0.14 * width;
    });
    // a camera must not stand between the reader and the body
    const cost = eye.distance * (1 + 0.5 * before.length);
    if (cost < 0.97 * nearest) [best, nearest] = [eye.yaw, cost];
  }
  eye.yaw = best;
  fit(points);
}

// The body in this frame, or all the room it uses when it is not known here.
function fitBody() {
  const points = [];
  for (const body of scene.bodies) {
    for (let j = 0; j < body.joints.length; j++) {
      const p = place(body, state.frame, j);
      if (p) points.push(...shiftsOf(body).map((by) => shifted(p, by)));
    }
  }
  fit(points.length > 3 ? points : corners(scene.body_box));
}

// Look from where a recording camera stands, along its axis.
function lookFrom(camera) {
  const f = camera.forward;
  eye.yaw = Math.atan2(-f[1], -f[0]);
  eye.pitch = Math.asin(Math.max(-1, Math.min(1, -f[2])));
  eye.distance = Math.max(0.3, dot(f, scene.body_box[0].map((c, k) => (c + scene.body_box[1][k]) / 2 - camera.centre[k])));
  eye.target = camera.centre.map((c, k) => c + f[k] * eye.distance);
}

// Pointer input: one pointer turns, two move and zoom, the wheel zooms.
const pointers = new Map();
let moved = 0;

function pan(dx, dy) {
  const s = eye.distance / axes.focal;
  eye.target = eye.target.map((c, k) => c - s * dx * axes.right[k] + s * dy * axes.up[k]);
  follow(false);
}

function zoom(factor) {
  eye.distance = Math.min(1e4, Math.max(0.05, eye.distance * factor));
}

canvas.addEventListener("pointerdown", (event) => {
  try { canvas.setPointerCapture(event.pointerId); } catch { /* the pointer is already gone */ }
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  moved = pointers.size > 1 ? 99 : 0;
  canvas.classList.add("dragging");
});
canvas.addEventListener("pointermove", (event) => {
  const was = pointers.get(event.pointerId);
  if (!was) return hover(event.offsetX, event.offsetY);
  const dx = event.clientX - was[0], dy = event.clientY - was[1];
  moved += Math.abs(dx) + Math.abs(dy);
  if (pointers.size === 1) {
    if (event.shiftKey || event.buttons === 2) pan(dx, dy);
    else {
      eye.yaw -= dx * 0.007;
      eye.pitch = Math.max(-1.55, Math.min(1.55, eye.pitch + dy * 0.007));
    }
  } else if (pointers.size === 2) {
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
    const before = Math.hypot(was[0] - other[0], was[1] - other[1]);
    zoom(before / Math.max(1, Math.hypot(event.clientX - other[0], event.clientY - other[1])));
    pan(dx / 2, dy / 2);
  }
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  redraw();
});
for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, (event) => {
    pointers.delete(event.pointerId);
    if (!pointers.size) canvas.classList.remove("dragging");
    if (kind === "pointerup" && moved < 5) pick(event.offsetX, event.offsetY);
  });
}
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.003));
  redraw();
}, { passive: false });
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
