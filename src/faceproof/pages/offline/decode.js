// From a file's bytes to RGB pixels, upright and within limits. What a header promises is held against the limits before
// anything is decoded. Decoding itself is the browser's: no colour profile applied, as in Python.

const TILE = 2048;  // pixels read back at once: browsers bound the size of a canvas

export class PictureError extends Error {}

const ascii = (bytes, at, length) => String.fromCharCode(...bytes.subarray(at, at + length));

/** Format and size from the first bytes: {kind, width, height}; width 0 where only the decoder knows. */
export function header(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    if (bytes[0] === 0xff && bytes[1] === 0xd8) return { kind: "JPEG", ...jpeg(bytes, view) };
    if (ascii(bytes, 0, 6) === "\x89PNG\r\n") return { kind: "PNG", width: view.getUint32(16), height: view.getUint32(20) };
    if (ascii(bytes, 0, 4) === "GIF8") return { kind: "GIF", width: view.getUint16(6, true), height: view.getUint16(8, true) };
    if (ascii(bytes, 0, 4) === "RIFF" && ascii(bytes, 8, 4) === "WEBP") return { kind: "WEBP", ...webp(bytes, view) };
    if (ascii(bytes, 0, 2) === "BM") {
      return { kind: "BMP", width: Math.abs(view.getInt32(18, true)), height: Math.abs(view.getInt32(22, true)) };
    }
    if (ascii(bytes, 4, 4) === "ftyp") return iso(bytes, view);
  } catch (error) {
    if (error instanceof PictureError) throw error;
    throw new PictureError("the file begins like a picture, but its header is damaged or truncated; get the original file again");
  }
  if (["II*\0", "MM\0*"].includes(ascii(bytes, 0, 4))) return { kind: "TIFF", width: 0, height: 0 };
  return { kind: "", width: 0, height: 0 };
}

/** Walk the segments to the frame header; also whether the file reaches its end mark. */
function jpeg(bytes, view) {
  let at = 2;
  while (at + 4 <= bytes.length) {
    if (bytes[at] !== 0xff) { at += 1; continue; }
    const marker = bytes[at + 1];
    if (marker === 0xff || marker === 0 || marker === 1 || (marker >= 0xd0 && marker <= 0xd8)) {
      at += marker === 0xff ? 1 : 2;
      continue;
    }
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return { height: view.getUint16(at + 5), width: view.getUint16(at + 7) };
    }
    if (marker === 0xda || marker === 0xd9) break;
    at += 2 + view.getUint16(at + 2);
  }
  throw new PictureError("the file begins like JPEG, but its header is damaged or truncated; get the original file again");
}

function webp(bytes, view) {
  const kind = ascii(bytes, 12, 4), three = (at) => bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16);
  if (kind === "VP8X") return { width: 1 + three(24), height: 1 + three(27) };
  if (kind === "VP8 ") return { width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
  const bits = view.getUint32(21, true);
  return { width: 1 + (bits & 0x3fff), height: 1 + ((bits >> 14) & 0x3fff) };
}

/** AVIF and HEIC: the largest of the sizes ("ispe" boxes) the file's head speaks of. */
function iso(bytes, view) {
  const brand = ascii(bytes, 8, 4), found = { kind: brand.startsWith("avi") ? "AVIF" : "HEIF or a video", width: 0, height: 0 };
  for (let at = 12; at + 16 <= Math.min(bytes.length, 1 << 16); at++) {
    if (view.getUint32(at) !== 0x69737065) continue;  // "ispe"
    const width = view.getUint32(at + 8), height = view.getUint32(at + 12);
    if (width * height > found.width * found.height) Object.assign(found, { width, height });
  }
  return found;
}

/** Whether the data break off: browsers show what is there of such a file, Python refuses it. */
export function truncated(kind, bytes, view) {
  if (kind === "JPEG") {
    // The last end mark must follow the last scan's start: thumbnails inside have marks of their own.
    for (let at = bytes.length - 2; at > 2; at--) {
      if (bytes[at] !== 0xff) continue;
      if (bytes[at + 1] === 0xd9) return false;
      if (bytes[at + 1] === 0xda) return true;
    }
    return true;
  }
  if (kind === "PNG") {
    for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) if (ascii(bytes, at + 4, 4) === "IEND") return false;
    return true;
  }
  return kind === "WEBP" && view.getUint32(4, true) + 8 > bytes.length;
}

/** Decode a file: {picture, notes}. Throws a PictureError that says what is wrong and what to do. */
export async function decode(file, limits) {
  if (!file.size) throw new PictureError("the file is empty (0 bytes); get the original file again");
  if (file.size > limits.max_bytes) {
    throw new PictureError(`${Math.round(file.size / 2 ** 20)} MiB, over the limit of ${limits.max_bytes / 2 ** 20} MiB; give a smaller picture`);
  }
  const bytes = new Uint8Array(await file.arrayBuffer()), { kind, width, height } = header(bytes);
  if (!kind) throw new PictureError("not a picture: the file begins like none of JPEG, PNG, WEBP, GIF, BMP, AVIF");
  check(width, height, limits);
  if (truncated(kind, bytes, new DataView(bytes.buffer))) {
    throw new PictureError("the picture's data are damaged or truncated; get the original file again");
  }
  const sha256 = await digest(bytes);
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes], { type: `image/${kind.toLowerCase()}` }), {
      colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image",
    });
  } catch {
    throw new PictureError(
      `this browser cannot decode the file (${kind}): it is damaged, or of a kind browsers do not read; the command line may (faceproof check FILE)`,
    );
  }
  try {
    check(bitmap.width, bitmap.height, limits);
    return { ...read(bitmap, !["JPEG", "BMP"].includes(kind)), sha256 };
  } finally {
    bitmap.close();
  }
}

function check(width, height, limits) {
  if (width * height > limits.max_pixels) {
    const million = (pixels) => Math.round(pixels / 1e6);
    throw new PictureError(
      `${width} x ${height} = ${million(width * height)} megapixels, over the limit of ${million(limits.max_pixels)}; shrink the picture first`,
    );
  }
}

/** SHA-256 of the file in hex; null where the page is not served over https (browsers withhold it there). */
async function digest(bytes) {
  if (!globalThis.crypto?.subtle) return null;
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...sum].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Read a bitmap's pixels tile by tile; transparent parts are laid over white. */
export function read(bitmap, mayBeClear) {
  const { width, height } = bitmap, data = new Uint8ClampedArray(3 * width * height);
  const canvas = new OffscreenCanvas(Math.min(width, TILE), Math.min(height, TILE));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let clear = false;
  for (let y = 0; y < height; y += TILE) {
    for (let x = 0; x < width; x += TILE) {
      const w = Math.min(TILE, width - x), h = Math.min(TILE, height - y);
      const draw = (white) => {
        context.clearRect(0, 0, w, h);
        if (white) { context.fillStyle = "#fff"; context.fillRect(0, 0, w, h); }
        context.drawImage(bitmap, -x, -y);
        return context.getImageData(0, 0, w, h).data;
      };
      let rgba = draw(!mayBeClear);
      if (mayBeClear && seeThrough(rgba)) { clear = true; rgba = draw(true); }
      store(rgba, w, h, data, x, y, width);
    }
  }
  return { picture: { data, width, height }, notes: clear ? ["transparent parts laid over white"] : [] };
}

function seeThrough(rgba) {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] < 255) return true;
  return false;
}

function store(rgba, w, h, data, x, y, width) {
  for (let row = 0, from = 0; row < h; row++) {
    for (let column = 0, to = 3 * ((y + row) * width + x); column < w; column++, from += 4, to += 3) {
      data[to] = rgba[from];
      data[to + 1] = rgba[from + 1];
      data[to + 2] = rgba[from + 2];
    }
  }
}
