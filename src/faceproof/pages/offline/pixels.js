// Pixels as OpenCV makes them: what the models saw in training was resized, turned and greyed by OpenCV, and a
// browser's own resizing differs from it by more than the verdict can bear. Pictures are {data, width, height} with
// three bytes a pixel, RGB. Held against Python in tests/test_page_parity.py.

/** Round half to even, as C's rint and Python's round. */
export function rint(value) {
  const down = Math.floor(value), rest = value - down;
  if (rest !== 0.5) return rest < 0.5 ? down : down + 1;
  return down % 2 === 0 ? down : down + 1;
}

/** A part of a picture, copied. */
export function part(picture, x0, y0, x1, y1) {
  const width = x1 - x0, height = y1 - y0, data = new Uint8ClampedArray(3 * width * height);
  for (let y = 0; y < height; y++) {
    const start = 3 * ((y0 + y) * picture.width + x0);
    data.set(picture.data.subarray(start, start + 3 * width), 3 * y * width);
  }
  return { data, width, height };
}

/** Which source cells a target cell covers, and how much of it each fills: columns target, source, share in order. */
function shares(from, to) {
  const scale = from / to, found = [];
  for (let target = 0; target < to; target++) {
    const start = target * scale, end = start + scale, size = Math.min(scale, from - start);
    const last = Math.min(Math.floor(end), from - 1), first = Math.min(Math.ceil(start), last);
    if (first - start > 1e-3) found.push([target, first - 1, Math.fround((first - start) / size)]);
    for (let source = first; source < last; source++) found.push([target, source, Math.fround(1 / size)]);
    if (end - last > 1e-3) {
      found.push([target, last, Math.fround(Math.min(Math.min(end - last, 1), size) / size)]);
    }
  }
  const column = (Kind, k) => Kind.from(found, (entry) => entry[k]);
  return { target: column(Int32Array, 0), source: column(Int32Array, 1), share: column(Float32Array, 2) };
}

/** Shrink by area averaging: cv2.resize(..., INTER_AREA), to (width, height) not larger than the picture. */
export function shrink(picture, width, height) {
  if (width === picture.width && height === picture.height) return picture;
  const data = new Uint8ClampedArray(3 * width * height);
  if (picture.width === 2 * width && picture.height === 2 * height) return halved(picture, data, width, height);
  const across = shares(picture.width, width), down = shares(picture.height, height);
  const row = new Float32Array(3 * width), sum = new Float32Array(3 * width);
  let current = 0, last = -1;
  const write = () => { data.set(sum, 3 * current * width); sum.fill(0); };  // clamped arrays round half to even
  for (let k = 0; k < down.target.length; k++) {
    const share = down.share[k];
    if (down.target[k] !== current) { write(); current = down.target[k]; }
    if (down.source[k] !== last) { last = down.source[k]; collect(picture, last, across, row); }
    for (let i = 0; i < row.length; i++) sum[i] += share * row[i];
  }
  write();
  return { data, width, height };
}

/** One source row averaged across, float32. */
function collect(picture, y, across, row) {
  const start = 3 * y * picture.width, pixels = picture.data;
  row.fill(0);
  for (let k = 0; k < across.share.length; k++) {
    const share = across.share[k], to = 3 * across.target[k], from = start + 3 * across.source[k];
    row[to] += share * pixels[from];
    row[to + 1] += share * pixels[from + 1];
    row[to + 2] += share * pixels[from + 2];
  }
}

/** OpenCV averages 2 x 2 in whole numbers, halves upwards. */
function halved(picture, data, width, height) {
  const line = 3 * picture.width, pixels = picture.data;
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0, from = 2 * y * line + 6 * x; c < 3; c++, from++, to++) {
        data[to] = (pixels[from] + pixels[from + 3] + pixels[from + line] + pixels[from + line + 3] + 2) >> 2;
      }
    }
  }
  return { data, width, height };
}

/** Keys' cubic weights (a = -0.75, OpenCV's) of the four pixels around a place x, 0 to 1, behind the second. */
function cubic(x, weights) {
  const a = -0.75, y = 1 - x;
  weights[0] = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a;
  weights[1] = ((a + 2) * x - (a + 3)) * x * x + 1;
  weights[2] = ((a + 2) * y - (a + 3)) * y * y + 1;
  weights[3] = 1 - weights[0] - weights[1] - weights[2];
}

/** Mirror an index at the border without repeating the edge: BORDER_REFLECT_101. */
function mirrored(index, length) {
  if (length === 1) return 0;
  const period = 2 * (length - 1), within = ((index % period) + period) % period;
  return within < length ? within : period - within;
}

/**
 * Cut a square out of a picture: cv2.warpAffine(..., INTER_CUBIC, BORDER_REFLECT_101) of OpenCV 5, which samples at exact places.
 * matrix: [a, b, c, d, e, f], target = (a x + b y + c, d x + e y + f).
 */
export function warp(picture, matrix, size) {
  const [m0, m1, m2, m3, m4, m5] = inverted(matrix), { data: pixels, width, height } = picture;
  const data = new Uint8ClampedArray(3 * size * size), xs = new Int32Array(4), across = new Float64Array(4);
  const down = new Float64Array(4);
  for (let y = 0, to = 0; y < size; y++) {
    for (let x = 0; x < size; x++, to += 3) {
      const atX = m0 * x + m1 * y + m2, atY = m3 * x + m4 * y + m5, left = Math.floor(atX), top = Math.floor(atY);
      cubic(atX - left, across);
      cubic(atY - top, down);
      for (let k = 0; k < 4; k++) xs[k] = 3 * mirrored(left - 1 + k, width);
      let r = 0, g = 0, b = 0;
      for (let j = 0; j < 4; j++) {
        const line = 3 * width * mirrored(top - 1 + j, height);
        for (let k = 0; k < 4; k++) {
          const weight = down[j] * across[k], from = line + xs[k];
          r += weight * pixels[from];
          g += weight * pixels[from + 1];
          b += weight * pixels[from + 2];
        }
      }
      data[to] = r;
      data[to + 1] = g;
      data[to + 2] = b;
    }
  }
  return { data, width: size, height: size };
}

/** From target to source, as OpenCV inverts it. */
function inverted([a, b, c, d, e, f]) {
  const determinant = a * e - b * d, by = determinant === 0 ? 0 : 1 / determinant;
  const [p, q, r, s] = [e * by, -b * by, -d * by, a * by];
  return [p, q, -p * c - q * f, r, s, -r * c - s * f];
}

/** Grey levels 0 to 255, whole numbers: cv2.COLOR_RGB2GRAY. */
export function grey(picture) {
  const { data, width, height } = picture, found = new Float32Array(width * height);
  for (let i = 0, from = 0; i < found.length; i++, from += 3) {
    found[i] = (9798 * data[from] + 19235 * data[from + 1] + 3735 * data[from + 2] + 16384) >> 15;
  }
  return found;
}

/** Laplacian of grey levels, mirrored at the border: cv2.Laplacian(..., CV_32F). */
export function laplacian(levels, width, height) {
  const found = new Float32Array(levels.length);
  for (let y = 0; y < height; y++) {
    const above = width * mirrored(y - 1, height), own = width * y, below = width * mirrored(y + 1, height);
    for (let x = 0; x < width; x++) {
      const sides = levels[own + mirrored(x - 1, width)] + levels[own + mirrored(x + 1, width)];
      found[own + x] = sides + levels[above + x] + levels[below + x] - 4 * levels[own + x];
    }
  }
  return found;
}

/** Standard deviation, divisor N. */
export function deviation(values) {
  let sum = 0, squares = 0;
  for (const value of values) sum += value;
  const mean = sum / values.length;
  for (const value of values) squares += (value - mean) ** 2;
  return Math.sqrt(squares / values.length);
}
