// Finding faces, cutting aligned crops and judging their quality: faceproof/faces/*.py in JavaScript.
// Every number that could change comes from Python with the page (config.json).

import { deviation, grey, laplacian, part, rint, shrink, warp } from "./pixels.js";

/** Anchors of a working picture: centre x, centre y, side, in the order of the network's outputs. */
export function anchors(height, width, finder) {
  const found = [];
  finder.strides.forEach((stride, level) => {
    for (let y = 0; y < Math.floor(height / stride); y++) {
      for (let x = 0; x < Math.floor(width / stride); x++) {
        for (const side of finder.anchor_sizes[level]) found.push((x + 0.5) * stride, (y + 0.5) * stride, side);
      }
    }
  });
  return Float32Array.from(found);
}

/** The network's input: BGR planes with the mean taken off, sides padded with zeros to the coarsest stride. */
export function blob(picture, finder) {
  const coarsest = Math.max(...finder.strides);
  const width = coarsest * Math.ceil(picture.width / coarsest), height = coarsest * Math.ceil(picture.height / coarsest);
  const data = new Float32Array(3 * width * height);
  for (let y = 0, from = 0; y < picture.height; y++) {
    for (let x = 0; x < picture.width; x++, from += 3) {
      for (let c = 0; c < 3; c++) {
        data[(2 - c) * width * height + y * width + x] = picture.data[from + c] - finder.mean[c];
      }
    }
  }
  return { data, dims: [1, 3, height, width] };
}

/** One anchor's outputs as box [x0, y0, x1, y1] and five landmarks, pixels of the working picture. */
export function decode(offsets, points, all, index, finder) {
  const [x, y, side] = all.subarray(3 * index, 3 * index + 3), [near, far] = finder.variances, limit = finder.exponent;
  const o = offsets.subarray(4 * index, 4 * index + 4), p = points.subarray(10 * index, 10 * index + 10);
  const middle = [x + o[0] * near * side, y + o[1] * near * side];
  const half = [2, 3].map((k) => (side * Math.exp(Math.min(limit, Math.max(-limit, o[k] * far)))) / 2);
  const box = [middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1]];
  const landmarks = [0, 1, 2, 3, 4].map((k) => [x + p[2 * k] * near * side, y + p[2 * k + 1] * near * side]);
  return { box, landmarks };
}

/** The surest faces that do not overlap a surer one too much: cv2.dnn.NMSBoxes. */
export function suppressed(faces, overlap) {
  const kept = [];
  for (const face of [...faces].sort((a, b) => b.confidence - a.confidence)) {
    if (kept.every((other) => jaccard(face.box, other.box) <= overlap)) kept.push(face);
  }
  return kept;
}

function jaccard(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const both = width * height;
  return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both);
}

/** One look at a picture whose longer side is made `size` pixels. run: blob -> [offsets, confidences, points]. */
async function look(picture, size, finder, run) {
  const scale = size / Math.max(picture.height, picture.width);
  const height = Math.max(1, rint(picture.height * scale)), width = Math.max(1, rint(picture.width * scale));
  const input = blob(shrink(picture, width, height), finder);
  const [offsets, confidences, points] = await run(input);
  const all = anchors(input.dims[2], input.dims[3], finder), found = [];
  for (let index = 0; index < all.length / 3; index++) {
    const confidence = confidences[2 * index + 1];
    if (confidence > finder.min_confidence) found.push({ ...decode(offsets, points, all, index, finder), confidence });
  }
  const back = [picture.width / width, picture.height / height];
  return suppressed(found, finder.overlap).map(({ box, landmarks, confidence }) => ({
    box: box.map((v, k) => Math.fround(v * back[k % 2])),
    landmarks: landmarks.map((point) => point.map((v, k) => Math.fround(v * back[k]))),
    confidence,
  }));
}

/** Every face of a picture, largest first: RetinaFace.detect. */
export async function detect(picture, finder, run) {
  const longer = Math.max(picture.height, picture.width), { near, far } = finder;
  const found = await look(picture, Math.min(near, longer), finder, run);
  if (far && longer > finder.second_look * near) {
    const size = Math.min(far, longer), limit = (finder.small * near * longer) / size;
    const more = (await look(picture, size, finder, run)).filter((face) => side(face.box) <= limit);
    const first = [...found];
    for (const face of more) if (!first.some((other) => same(face.box, other.box, finder.covered))) found.push(face);
  }
  found.sort((a, b) => b.confidence - a.confidence);
  return found.slice(0, finder.max_faces).sort((a, b) => side(b.box) - side(a.box));
}

function side([x0, y0, x1, y1]) {
  return Math.sqrt(Math.max(0, x1 - x0) * Math.max(0, y1 - y0));
}

function same(a, b, covered) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return width > 0 && height > 0 && width * height > covered * Math.min(side(a), side(b)) ** 2;
}

/** Least-squares similarity from points to points: [a, b, c, d, e, f], or null where all points coincide. */
export function similarity(from, to) {
  const middle = (points) => [0, 1].map((k) => points.reduce((sum, point) => sum + point[k], 0) / points.length);
  const [fx, fy] = middle(from), [tx, ty] = middle(to);
  let real = 0, imaginary = 0, spread = 0;
  from.forEach(([px, py], i) => {
    const [zx, zy, wx, wy] = [px - fx, py - fy, to[i][0] - tx, to[i][1] - ty];
    real += zx * wx + zy * wy;
    imaginary += zx * wy - zy * wx;
    spread += zx * zx + zy * zy;
  });
  if (!(spread > 1e-12)) return null;
  const a = real / spread, b = imaginary / spread;
  return [a, -b, tx - (a * fx - b * fy), b, a, ty - (b * fx + a * fy)];
}

/** The crop's corners in the picture, clockwise from top left. */
export function quad(landmarks, template) {
  const [a, b, c, d, e, f] = similarity(landmarks, template), determinant = a * e - b * d;
  return [[0, 0], [1, 0], [1, 1], [0, 1]].map(([x, y]) => [
    (e * (x - c) - b * (y - f)) / determinant, (a * (y - f) - d * (x - c)) / determinant,
  ]);
}

const within = (value, low, high) => Math.min(high, Math.max(low, value));

/** The aligned crop of one face; null where the landmarks are no face's. */
export function align(picture, landmarks, crop) {
  const { width, height } = picture, size = crop.size;
  const matrix = similarity(landmarks, crop.template.map((point) => point.map((v) => v * size)));
  if (!matrix) return null;
  const corners = quad(landmarks, crop.template), columns = [0, 1].map((k) => corners.map((corner) => corner[k]));
  const middle = columns.map((values) => values.reduce((sum, v) => sum + v, 0) / 4);
  const reach = Math.max(
    ...columns.map((values, k) => Math.max(...values.map((v) => Math.abs(v - middle[k])))),
    Math.abs(middle[0] - width / 2), Math.abs(middle[1] - height / 2),
  );
  if (!(reach <= crop.max_reach * Math.max(width, height, 16))) return null;
  const scale = Math.hypot(matrix[0], matrix[3]), margin = crop.margin / Math.min(scale, 1);
  const sides = [width, height];
  const [x0, y0] = columns.map((values, k) => Math.floor(within(Math.min(...values) - margin, 0, sides[k] - 1)));
  const low = [x0, y0];
  const [x1, y1] = columns.map((v, k) => Math.ceil(within(Math.max(...v) + margin, low[k] + 1, sides[k])));
  return turned(part(picture, x0, y0, x1, y1), matrix, scale, low, size);
}

/** Shrink a region to the crop's scale where it is larger, then turn it. */
function turned(region, matrix, scale, [x0, y0], size) {
  let [a, b, c, d, e, f] = matrix;
  c += a * x0 + b * y0;
  f += d * x0 + e * y0;
  if (scale < 1) {
    const width = Math.max(1, rint(region.width * scale)), height = Math.max(1, rint(region.height * scale));
    const fx = width / region.width, fy = height / region.height;
    region = shrink(region, width, height);
    c += a * (0.5 / fx - 0.5) + b * (0.5 / fy - 0.5);
    f += d * (0.5 / fx - 0.5) + e * (0.5 / fy - 0.5);
    [a, b, d, e] = [a / fx, b / fy, d / fx, e / fy];
  }
  return warp(region, [a, b, c, d, e, f], size);
}

/** The detector's input: RGB planes, (rgb / 255 - mean) / std. */
export function tensor(crop, { size, gain, shift }) {
  const data = new Float32Array(3 * size * size);
  for (let i = 0; i < size * size; i++) {
    for (let c = 0; c < 3; c++) data[c * size * size + i] = Math.fround(crop.data[3 * i + c] * gain[c]) + shift[c];
  }
  return { data, dims: [1, 3, size, size] };
}

/** What the quality gates look at: faces/quality.py, measure. */
export function measure(face, crop, width, height, config) {
  const corners = quad(face.landmarks, config.crop.template), points = face.landmarks;
  const [x0, y0, x1, y1] = face.box, area = Math.max((x1 - x0) * (y1 - y0), 1e-9);
  const seen = Math.max(0, Math.min(x1, width) - Math.max(x0, 0)) * Math.max(0, Math.min(y1, height) - Math.max(y0, 0));
  const inside = points.every(([x, y]) => x >= 0 && y >= 0 && x <= width && y <= height);
  const small = config.gates.sharpness_size, levels = grey(shrink(crop, small, small));
  const edges = deviation(laplacian(levels, small, small)), contrast = Math.max(deviation(levels), 5);
  const eyes = [0, 1].map((k) => points[1][k] - points[0][k]);
  const nose = [0, 1].map((k) => points[2][k] - (points[0][k] + points[1][k]) / 2);
  const along = (nose[0] * eyes[0] + nose[1] * eyes[1]) / Math.max(eyes[0] ** 2 + eyes[1] ** 2, 1e-9);
  return {
    side: Math.hypot(corners[1][0] - corners[0][0], corners[1][1] - corners[0][1]),
    inside: inside ? seen / area : 0,
    sharpness: (edges * 50) / contrast,
    turn: 2 * Math.abs(along),
  };
}

/** Why a face should not be judged: [{code, sentence, value, limit}], empty when it passes. */
export function judge(values, gates) {
  return gates.rules
    .filter(({ measure: name, limit, below }) => limit && (below ? values[name] < limit : values[name] > limit))
    .map(({ code, measure: name, limit, sentence, digits }) => ({
      code, sentence: sentence.replace("{value}", shown(values[name], digits)), value: values[name], limit,
    }));
}

function shown(value, digits) {
  return digits === "%" ? `${rint(100 * value)}%` : digits === 0 ? String(rint(value)) : value.toFixed(digits);
}
