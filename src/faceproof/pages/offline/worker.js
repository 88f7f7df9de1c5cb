// Runs beside the page: loads the runtime and the models, then answers one picture after the other.
// It is started from a blob, so that the page's content security policy holds here too: it cannot reach other servers.

import * as ort from "./ort.wasm.bundle.min.mjs";
import { PictureError, decode } from "./decode.js";
import { align, detect, judge, measure, tensor } from "./faces.js";
import { shrink } from "./pixels.js";
import { alignment, decide, sigmoid, tensors, unlike } from "./verdict.js";

let config, finder, network, scorer = null, base;

/** The bytes of an answer; onBytes is told how many have come. */
async function drained(answer, onBytes) {
  const parts = [], reader = answer.body.getReader();
  for (let step = await reader.read(); !step.done; step = await reader.read()) {
    parts.push(step.value);
    onBytes(step.value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** A file of the page, its length checked; packed files are unpacked. */
async function fetched(name, onBytes) {
  const { bytes, packed } = config.files[name];
  let data;
  try {
    const answer = await fetch(new URL(name, base));
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    data = await drained(answer, onBytes);
  } catch (error) {
    throw new Error(`${name} cannot be fetched (${error.message}); check the connection, or copy the whole folder to the server again`);
  }
  // A server may unpack on its own what is packed.
  const still = packed && data[0] === 0x1f && data[1] === 0x8b;
  if (data.length !== bytes && packed === still) {
    throw new Error(`${name} has ${data.length} bytes instead of ${bytes}; copy the whole folder to the server again`);
  }
  if (!still) return data;
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function start(message) {
  ({ config, base } = message);
  const names = ["runtime.wasm.gz", "faces.onnx", "model.onnx", ...(config.scorer ? ["mixture.safetensors"] : [])];
  const total = names.reduce((sum, name) => sum + config.files[name].bytes, 0);
  let done = 0;
  const step = (bytes) => postMessage({ type: "progress", done: Math.min(total, (done += bytes)), total });
  const [wasm, faces, model, mixture] = await Promise.all(names.map((name) => fetched(name, step)));
  Object.assign(ort.env.wasm, { numThreads: 1, proxy: false, wasmBinary: wasm });
  const options = { executionProviders: ["wasm"], logSeverityLevel: 3 };
  finder = await ort.InferenceSession.create(faces, options);
  network = await ort.InferenceSession.create(model, options);
  if (config.scorer) scorer = { ...config.scorer, mixture: tensors(mixture.buffer) };
  postMessage({ type: "ready" });
}

async function run(session, { data, dims }, names) {
  const found = await session.run({ [session.inputNames[0]]: new ort.Tensor("float32", data, dims) });
  return names.map((name) => found[name].data);
}

/** Scores of one crop by name; one run of the network gives all of them. */
async function score(crop) {
  const names = [network.outputNames[0], ...(scorer ? ["embedding"] : [])];
  const [value, embedding] = await run(network, tensor(crop, config.crop), names);
  return scorer ? { supervised: value[0], anomaly: unlike(scorer, embedding) } : { supervised: value[0] };
}

/** Everything about one picture: faces with verdicts, largest first. */
async function look(picture) {
  const { width, height } = picture, cut = [], faces = [];
  for (const found of await detect(picture, config.finder, (input) => run(finder, input, finder.outputNames))) {
    const crop = align(picture, found.landmarks, config.crop);
    if (crop) cut.push({ found, crop });
  }
  for (const { found, crop } of cut) {
    const quality = judge(measure(found, crop, width, height, config), config.gates);
    const extra = alignment(found.landmarks, width, height, cut.length, config.alignment);
    faces.push({ ...found, quality, ...decide(await score(crop), quality, extra, config) });
  }
  return faces;
}

/** The answer about a picture: a record with the fields of `faceproof check --json`, and which face speaks for it. */
function answer({ id, name, begun, sha256 = null, picture = null, faces = [], notes = [], error = null, shown = null }) {
  const { rule, model, face_detector, version, schema } = config;
  const [low, high, threshold] = [rule.low, rule.high, rule.threshold].map(sigmoid);
  const fit = faces.filter((face) => !face.quality.length);
  const decisive = fit.reduce((best, face) => (best && best.log_odds >= face.log_odds ? best : face), null);
  const own = (field) => (decisive ? decisive[field] : null);
  const record = {
    path: name, sha256, status: error ? "error" : faces.length ? "ok" : "no_face", error,
    width: picture?.width ?? 0, height: picture?.height ?? 0,
    faces: faces.map((face) => ({ ...face, stability: null })),
    score: own("score"), log_odds: own("log_odds"), probability: own("probability"),
    verdict: decisive ? decisive.verdict : faces.length ? "inconclusive" : null, alarm: own("alarm"),
    threshold, threshold_fpr: rule.fpr, band: [low, high], alpha: rule.alpha, notes,
    model, face_detector, version, schema,
  };
  const milliseconds = performance.now() - begun;
  postMessage({ type: "result", id, record, decisive: decisive && faces.indexOf(decisive), milliseconds, shown });
}

/** The picture as shown: at most `shown_side` pixels, JPEG. */
async function preview(picture) {
  const scale = Math.min(1, config.shown_side / Math.max(picture.width, picture.height));
  const small = shrink(picture, Math.max(1, Math.round(picture.width * scale)), Math.max(1, Math.round(picture.height * scale)));
  const rgba = new Uint8ClampedArray(4 * small.width * small.height).fill(255);
  for (let from = 0, to = 0; from < small.data.length; to++) if (to % 4 !== 3) rgba[to] = small.data[from++];
  const canvas = new OffscreenCanvas(small.width, small.height);
  canvas.getContext("2d").putImageData(new ImageData(rgba, small.width, small.height), 0, 0);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
}

async function check({ id, name, file }) {
  const begun = performance.now();
  try {
    const { picture, notes, sha256 } = await decode(file, config.limits);
    const faces = await look(picture), shown = await preview(picture);
    answer({ id, name, begun, sha256, picture, faces, notes, shown });
  } catch (problem) {
    const why = String(problem?.message ?? problem);
    const error = problem instanceof PictureError ? why
      : `the picture could not be checked (${why.slice(0, 160)}); try a smaller one, or load the page again`;
    answer({ id, name, begun, error });
  }
}

let queue = Promise.resolve();
onmessage = ({ data }) => {
  const failed = (error) => postMessage({ type: "failed", message: error.message });
  queue = queue.then(() => (data.type === "start" ? start(data).catch(failed) : check(data)));
};
