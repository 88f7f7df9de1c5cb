// What a person sees: pictures in by file, drop, paste or camera; verdicts out. All work is done in worker.js.
// Text reaches the document as text nodes only.

const $ = (id) => document.getElementById(id);
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
const SVG = new Set(["svg", "rect", "circle", "line", "text", "image"]);
const records = [], waiting = new Map();
let config, worker, next = 0, failed = "";

/** An element with attributes and children; strings become text. */
function el(tag, attributes = {}, ...children) {
  const made = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function say(text, state) {
  $("status").textContent = text;
  document.body.dataset.state = state;
}

/** Why this browser cannot do it; "" if it can. */
function lacking() {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(new Uint8Array(SIMD))) return "WebAssembly SIMD";
  if (typeof OffscreenCanvas !== "function") return "OffscreenCanvas";
  return typeof DecompressionStream === "function" ? "" : "DecompressionStream";
}

function give_up(message) {
  failed = message;
  say(message, "failed");
  $("bar").hidden = true;
  for (const button of document.querySelectorAll("#drop button")) button.disabled = true;
  for (const { article } of waiting.values()) article.remove();
  waiting.clear();
}

async function begin() {
  const missing = lacking();
  if (missing) {
    give_up(`This browser cannot run the models: it has no ${missing}. Use Chrome or Edge 91, Firefox 114, Safari 16.4, or newer.`);
    return;
  }
  try {
    const answer = await fetch("config.json");
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    config = await answer.json();
  } catch (error) {
    give_up(`config.json cannot be read (${error.message}); copy the whole folder to the server again.`);
    return;
  }
  // A worker made from a blob inherits this page's security policy; one made from a file would not.
  const source = `import ${JSON.stringify(new URL("worker.js", location.href).href)};`;
  worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })), { type: "module" });
  worker.onmessage = ({ data }) => answers[data.type](data);
  worker.onerror = (event) => {
    event.preventDefault();
    give_up(`The program did not start or broke off (${event.message || "a file of the page is missing"}). Load the page again; if that does not help, copy the whole folder to the server again.`);
  };
  worker.postMessage({ type: "start", config, base: document.baseURI });
  keep_offline();
}

const answers = {
  progress({ done, total }) {
    if (failed) return;  // other files still come in
    $("bar").value = done / total;
    say(`Loading the models: ${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`, "loading");
  },
  ready() {
    $("bar").hidden = true;
    say("Ready. Pictures stay on this device.", "ready");
  },
  failed({ message }) {
    give_up(`The page cannot work: ${message}.`);
  },
  result({ id, record, decisive, shown, milliseconds }) {
    const { article } = waiting.get(id);
    waiting.delete(id);
    records.push(record);
    article.replaceWith(result(record, decisive, shown, milliseconds));
    const outcome = config.words[record.verdict ?? record.status];
    say(waiting.size ? `${waiting.size} to go` : `${record.path}: ${outcome}`, waiting.size ? "busy" : "ready");
    $("tools").hidden = false;
  },
};

async function take(files) {
  await started;
  if (failed) { say(failed, "failed"); return; }
  for (const file of files) {
    const id = (next += 1), name = file.name || "pasted picture";
    const article = el("article", { class: "waiting" }, el("header", {}, el("h2", { class: "path" }, name), el("p", { class: "soft" }, "looking …")));
    $("results").prepend(article);
    waiting.set(id, { article, name });
    worker.postMessage({ type: "check", id, name, file });
    say(`${waiting.size} to go`, "busy");
  }
}

/** One picture's answer, laid out as in a report. */
function result(record, decisive, shown, milliseconds) {
  const outcome = record.verdict ?? record.status, face = decisive === null ? null : record.faces[decisive];
  const promise = config.promises[record.faces.length && !face ? "unfit" : outcome];
  const odds = face ? `, probability of generated ${face.probability.toFixed(3)}` : "";
  const banner = el("div", { class: `verdict ${outcome}` }, el("p", {}, el("b", {}, config.words[outcome]), odds, el("br"), promise));
  const detail = el("div", {}, ...(record.error ? [el("p", {}, record.error)] : []), ...record.faces.map((one, k) => person(one, k, decisive, record)));
  if (record.notes.length) detail.append(el("h3", {}, "Notes"), list(record.notes));
  detail.append(el("p", { class: "soft" }, `${record.width} x ${record.height} pixels, ${Math.round(milliseconds)} ms. Not looked at: ${config.not_looked_at.join(", ")}.`));
  return el("article", { "data-verdict": outcome, tabindex: "-1" },
    el("header", {}, el("h2", { class: "path" }, record.path), banner),
    ...(shown ? [el("div", {}, figure(record, shown)), detail] : [el("div", { class: "wide" }, detail)]));
}

const list = (texts) => el("ul", {}, ...texts.map((text) => el("li", {}, text)));
const table = (rows) => el("table", {}, ...rows.map(([name, text]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, text))));

function person(face, number, decisive, record) {
  const chosen = record.faces.length > 1 && number === decisive ? " (the one that speaks for the picture)" : "";
  const signed = (value) => (value < 0 ? "" : "+") + value.toFixed(2);
  const pieces = [...face.evidence].sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
  return el("section", { class: "face" },
    el("h3", {}, `Face ${number + 1}${chosen}: `, el("span", { class: face.verdict }, face.verdict)),
    scale(face, record), list(face.reasons),
    table([
      ["probability of generated", face.probability.toFixed(3)],
      ["threshold", `${record.threshold.toFixed(3)}, which ${+(100 * record.threshold_fpr).toPrecision(6)} % of known photographs reach`],
      ["band without a claim", `${record.band[0].toFixed(3)} to ${record.band[1].toFixed(3)}`],
    ]),
    el("details", {}, el("summary", {}, `Evidence, which adds up to ${signed(face.log_odds)} log-odds`),
      table([...pieces.map((piece) => [piece.name, `${signed(piece.weight)} log-odds. ${piece.sentence}`]), ["detector's raw score", face.score.toFixed(3)]])));
}

/** Probability on a fixed scale from 0 to 1 with the band and the threshold. */
function scale(face, record) {
  const [low, high, at, limit] = [...record.band, face.probability, record.threshold].map((value) => 300 * value);
  const word = (x, anchor, text) => el("text", { x, y: 33, "font-size": 10, "text-anchor": anchor, fill: "currentColor" }, text);
  return el("svg", { class: "scale", viewBox: "-6 0 312 36", role: "img", "aria-label": `probability ${face.probability.toFixed(3)}, threshold ${record.threshold.toFixed(3)}` },
    el("rect", { x: 0, y: 10, width: 300, height: 8, fill: "currentColor", opacity: 0.15 }),
    el("rect", { x: low, y: 10, width: Math.max(high - low, 1), height: 8, fill: "currentColor", opacity: 0.3 }),
    el("line", { x1: limit, x2: limit, y1: 6, y2: 22, stroke: "currentColor", "stroke-width": 1.5 }),
    el("circle", { cx: at, cy: 14, r: 5.5, class: face.verdict, fill: "currentColor" }),
    word(0, "start", "0 photograph"), word(300, "end", "generated 1"));
}

function figure(record, shown) {
  const { width, height } = record, stroke = Math.max(width, height) / 220;
  const drawn = el("svg", { class: "picture", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `the picture with ${record.faces.length} marked faces` },
    el("image", { href: URL.createObjectURL(shown), width, height }));
  record.faces.forEach(({ box: [x0, y0, x1, y1], verdict, quality }, k) => {
    const dashes = quality.length ? { "stroke-dasharray": 3 * stroke } : {};
    drawn.append(
      el("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, class: verdict, stroke: "currentColor", fill: "none", "stroke-width": stroke, ...dashes }),
      el("text", { x: Math.max(x0, 0) + 2 * stroke, y: Math.max(y0, 0) + 9 * stroke, "font-size": 8 * stroke, "font-weight": 700, fill: "#fff", stroke: "#000", "stroke-width": 1.2 * stroke, "paint-order": "stroke" }, String(k + 1)));
  });
  return el("figure", {}, drawn);
}

/** The browser keeps the page's files, where it is served over https or from this machine. */
async function keep_offline() {
  const told = $("offline");
  if (!navigator.serviceWorker) {
    told.textContent = "Not kept for offline use: that needs https.";
    return;
  }
  try {
    const installing = (await navigator.serviceWorker.register("sw.js")).installing;
    installing?.addEventListener("statechange", () => {
      if (installing.state === "redundant") told.textContent = "Not kept for offline use: a file of the page could not be stored.";
    });
    await navigator.serviceWorker.ready;
    told.textContent = "Kept on this device: the page works without a connection now.";
    document.body.dataset.offline = "ready";
  } catch (error) {
    told.textContent = `Not kept for offline use (${error.message}).`;
  }
}

async function open_camera() {
  try {
    $("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 1280 } } });
    $("live").hidden = false;
    $("shoot").focus();
  } catch (error) {
    say(`The camera cannot be used (${error.message || error.name}). Choose a picture instead.`, document.body.dataset.state);
  }
}

function close_camera() {
  for (const track of $("video").srcObject?.getTracks() ?? []) track.stop();
  $("video").srcObject = null;
  $("live").hidden = true;
  $("camera").focus();
}

function shoot() {
  const video = $("video"), canvas = document.createElement("canvas");
  if (!video.videoWidth) return;
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  const time = new Date().toTimeString().slice(0, 8);
  canvas.toBlob((blob) => take([new File([blob], `camera ${time}`, { type: "image/png" })]), "image/png");  // PNG: nothing lost
}

function save() {
  const lines = records.map((record) => JSON.stringify(record) + "\n");
  const link = el("a", { href: URL.createObjectURL(new Blob(lines, { type: "application/jsonl" })), download: "faceproof.jsonl" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const pictures = (list) => [...(list ?? [])].filter((file) => file instanceof File);
$("choose").onclick = () => $("file").click();
$("file").onchange = (event) => { take(pictures(event.target.files)); event.target.value = ""; };
$("camera").onclick = open_camera;
$("shoot").onclick = shoot;
$("stop").onclick = close_camera;
$("save").onclick = save;
$("clear").onclick = () => {
  for (const article of $("results").querySelectorAll("article:not(.waiting)")) {
    const image = article.querySelector("image");
    if (image) URL.revokeObjectURL(image.getAttribute("href"));
    article.remove();
  }
  records.length = 0;
  $("tools").hidden = true;
};
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !$("live").hidden) close_camera(); });
document.addEventListener("paste", (event) => take(pictures(event.clipboardData?.files)));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") take(pictures(event.dataTransfer?.files));
  });
}
const started = begin();
