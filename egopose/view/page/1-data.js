"use strict";
// Scene data: base64 arrays to typed arrays, positions relative to the scene's centre so that float32 is exact enough.
const scene = JSON.parse(document.getElementById("scene-data").textContent);
const ABSENT = -32768, NO_SIGMA = 65535;

function typed(text, Type) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Type(bytes.buffer);
}

for (const body of scene.bodies) {
  body.xyz = typed(body.xyz, Int16Array);
  body.origin = typed(body.origin, Float32Array);
  body.status = typed(body.status, Uint8Array);
  body.sigma = body.sigma ? typed(body.sigma, Uint16Array) : null;
  body.factor = body.factor ? typed(body.factor, Int16Array) : null;
}
const frameCount = scene.frames.length;

// A joint's place relative to the scene's centre, metres, or null where it is not known.
function place(body, frame, joint) {
  const at = (frame * body.joints.length + joint) * 3, o = frame * 4;
  if (body.xyz[at] === ABSENT) return null;
  const step = body.origin[o + 3];
  return [0, 1, 2].map((k) => body.origin[o + k] + body.xyz[at + k] * step);
}

// One standard deviation, metres (root mean square of the axes for a covariance), or null.
function sigmaOf(body, frame, joint) {
  const at = frame * body.joints.length + joint;
  if (body.sigma) return body.sigma[at] === NO_SIGMA ? null : body.sigma[at] * scene.sigma_step;
  const L = factorOf(body, frame, joint);
  return L ? Math.sqrt(L.reduce((sum, x) => sum + x * x, 0) / 3) : null;
}

// Lower triangle of a Cholesky factor of the covariance: l00 l10 l11 l20 l21 l22, metres.
function factorOf(body, frame, joint) {
  const at = frame * body.joints.length + joint;
  if (body.factor) {
    if (body.factor[at * 6] === ABSENT) return null;
    return Array.from(body.factor.subarray(at * 6, at * 6 + 6), (x) => x * scene.sigma_step);
  }
  if (!body.sigma || body.sigma[at] === NO_SIGMA) return null;
  const s = body.sigma[at] * scene.sigma_step;
  return [s, 0, s, 0, 0, s];
}

const rival = scene.bodies.find((body) => body.rival) || null;
const reference = scene.bodies.find((body) => body.reference) || null;

// Distance to what a body is compared with, metres, or null.
function errorOf(body, frame, joint) {
  if (body.target === null) return null;
  const other = body.partner[joint];
  if (other < 0) return null;
  const a = place(body, frame, joint), b = place(scene.bodies[body.target], frame, other);
  return a && b ? Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]) : null;
}

function nearestFrame(number) {
  let best = 0;
  for (let i = 1; i < frameCount; i++) {
    if (Math.abs(scene.frames[i] - number) < Math.abs(scene.frames[best] - number)) best = i;
  }
  return best;
}

const millimetres = (m) => (m === null ? "–" : m < 0.0995 ? (1000 * m).toFixed(1) + " mm" : (100 * m).toFixed(1) + " cm");
