// The page of `faceproof serve`: files go to this server only, and are forgotten with the page.
// What the server sends as HTML is made by it and escaped there; everything else is set as text.

const MEBIBYTE = 1 << 20;
const ATTEMPTS = 6;
const WAITING = {
  video: "Checking the video; this may take a minute.",
  generate: "The picture is being made; this may take a minute.",
};
const one = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
let about = null;
let token = null;

function made(name, text = "", properties = {}) {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  return Object.assign(element, properties);
}

function say(panel, text, kind = "") {
  const status = one(".status", panel);
  status.className = `status ${kind}`;
  status.textContent = text;
}

class Refused extends Error {}

// ---------------------------------------------------------------- asking the server

async function ask(path, options = {}, wait = () => {}) {
  for (let attempt = 1; ; attempt += 1) {
    const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    let answer;
    try {
      answer = await fetch(path, { ...options, headers, credentials: "omit" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused("The server does not answer, or refused the file while it was sent. Is the file too large?");
    }
    if (answer.ok) return answer;
    let problem = { code: "", message: `the server answered ${answer.status}` };
    try {
      problem = (await answer.json()).error;
    } catch {
      // a proxy's own error page
    }
    if (answer.status === 401) {
      await askForToken();
      attempt -= 1;
    } else if (answer.status === 429 && attempt < ATTEMPTS) {
      const seconds = Math.min(30, Number(answer.headers.get("Retry-After")) || 1);
      wait(`Many people are asking at once; trying again in ${seconds} s.`);
      await new Promise((done) => setTimeout(done, 1000 * seconds * (0.8 + 0.4 * Math.random())));
    } else {
      throw new Refused(problem.message.charAt(0).toUpperCase() + problem.message.slice(1));
    }
  }
}

function askForToken() {
  const form = one("form.token");
  const input = one("input", form);
  form.hidden = false;
  input.value = "";
  input.focus();
  return new Promise((done) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      token = input.value.trim();
      form.hidden = true;
      done();
    };
  });
}

// ---------------------------------------------------------------- one tab that takes files

class Panel {
  constructor(element) {
    this.element = element;
    this.verb = element.dataset.verb;
    this.least = Number(element.dataset.least);
    this.many = element.dataset.most !== "1";
    this.files = [];
    this.stream = null;
    this.abort = null;
    this.listen();
  }

  get most() {
    return Number(this.element.dataset.most) || about.most_files;
  }

  listen() {
    const panel = this.element;
    const drop = one(".drop", panel);
    one("input[type=file]", drop).addEventListener("change", (event) => {
      this.add([...event.target.files]);
      event.target.value = "";
    });
    for (const kind of ["dragover", "dragleave", "drop"]) {
      drop.addEventListener(kind, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", kind === "dragover");
        if (kind === "drop") this.add([...event.dataTransfer.files]);
      });
    }
    one(".go", panel)?.addEventListener("click", () => this.run());
    one(".clear", panel)?.addEventListener("click", () => this.clear());
    one(".camera-open", panel)?.addEventListener("click", () => this.openCamera());
    one(".camera-take", panel)?.addEventListener("click", () => this.takePicture());
    one(".camera-close", panel)?.addEventListener("click", () => this.closeCamera());
    one(".by-url", panel)?.addEventListener("submit", (event) => {
      event.preventDefault();
      this.files = [];
      this.run(one("input", event.target).value);
    });
  }

  add(files) {
    if (!files.length) return;
    const limit = this.verb === "video" ? about.most_video : about.most_picture;
    const large = files.find((file) => file.size > limit);
    if (large) {
      say(this.element, `${large.name} has ${Math.ceil(large.size / MEBIBYTE)} MiB; the largest taken is ${limit / MEBIBYTE} MiB.`, "bad");
      return;
    }
    if (!this.many) {
      this.files = files.slice(0, 1);
      this.run();
      return;
    }
    if (this.most === 2 && this.files.length === 2) this.clear(); // two were compared: the next pair begins
    const room = this.most - this.files.length;
    this.files.push(...files.slice(0, room));
    say(this.element, files.length > room ? `At most ${this.most} pictures; the others were left out.` : "");
    this.list();
    if (this.most === 2 && this.files.length === 2) this.run();
  }

  list() {
    const shown = this.files.map((file, index) => {
      const item = made("li");
      const picture = thumbnail(file);
      const remove = made("button", "Remove", { type: "button", onclick: () => {
        this.files.splice(index, 1);
        this.list();
      } });
      remove.setAttribute("aria-label", `Remove ${file.name}`);
      item.append(picture, made("div", file.name), remove);
      return item;
    });
    one(".files", this.element).replaceChildren(...shown);
    one(".go", this.element).disabled = this.files.length < this.least;
    one(".clear", this.element).hidden = !this.files.length;
  }

  clear() {
    this.abort?.abort();
    this.files = [];
    this.list();
    one(".result", this.element).replaceChildren();
    say(this.element, "");
  }

  query() {
    const found = new URLSearchParams();
    for (const field of all(".options [name]", this.element)) {
      if (field.type !== "checkbox" || field.checked) found.set(field.name, field.value);
    }
    return found;
  }

  body(address) {
    if (address) return { body: JSON.stringify({ url: address }), headers: { "Content-Type": "application/json" } };
    const form = new FormData();
    for (const file of this.files) form.append("file", file, file.name);
    return { body: form };
  }

  async run(address = "") {
    this.abort?.abort();
    const abort = new AbortController();
    this.abort = abort;
    const panel = this.element;
    const result = one(".result", panel);
    result.replaceChildren();
    panel.setAttribute("aria-busy", "true");
    say(panel, WAITING[this.verb] ?? "Checking…", "busy");
    try {
      const sent = { method: "POST", signal: abort.signal, ...this.body(address) };
      const answer = await ask(`page/${this.verb}?${this.query()}`, sent, (text) => say(panel, text, "busy"));
      const { record, html } = await answer.json();
      if (html) result.innerHTML = html;
      else if (record.groups) result.append(...groups(record, this.files));
      if (record.picture) result.prepend(figure(record));
      result.prepend(this.actions(record, address));
      say(panel, spoken(this.verb, record));
    } catch (error) {
      if (error.name === "AbortError") return;
      say(panel, error instanceof Refused ? error.message : "Something went wrong on this page.", "bad");
      if (!(error instanceof Refused)) throw error;
    } finally {
      if (this.abort === abort) panel.removeAttribute("aria-busy");
    }
  }

  actions(record, address) {
    const row = made("div", "", { className: "actions" });
    const files = [...this.files];
    row.append(button("Save the record", () => save(`faceproof-${this.verb}.json`, "application/json", JSON.stringify(record, null, 1))));
    if (this.verb === "check" && files.length) {
      row.append(
        button("Save a report", (event) => this.report(event.target, files[0])),
        button("Explain it", () => {
          show("explain");
          panels.explain.add(files);
        }),
      );
    }
    return row;
  }

  async report(pressed, file) {
    pressed.disabled = true;
    say(this.element, "Making the report, with maps; this takes some seconds.", "busy");
    try {
      const form = new FormData();
      form.append("file", file, file.name);
      const answer = await ask("api/v1/report", { method: "POST", body: form });
      save("faceproof-report.html", "text/html", await answer.blob());
      say(this.element, "The report is saved.");
    } catch (error) {
      say(this.element, error.message, "bad");
    } finally {
      pressed.disabled = false;
    }
  }

  async openCamera() {
    const camera = one(".camera", this.element);
    const video = one("video", camera);
    if (!navigator.mediaDevices) {
      say(this.element, "Browsers give pages a camera over https or on localhost only.", "bad");
      return;
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } });
    } catch (error) {
      say(this.element, `The camera cannot be used (${error.name}).`, "bad");
      return;
    }
    video.srcObject = this.stream;
    await video.play();
    camera.hidden = false;
    say(this.element, "The camera is on. Its picture stays here until you take one.");
    one(".camera-take", camera).focus();
  }

  takePicture() {
    const video = one(".camera video", this.element);
    const canvas = made("canvas", "", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    // PNG: another compression would leave traces of its own.
    canvas.toBlob((blob) => this.add([new File([blob], "camera.png", { type: "image/png" })]), "image/png");
    this.closeCamera();
    say(this.element, "Checking…", "busy");
  }

  closeCamera() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    one(".camera", this.element).hidden = true;
    one(".camera-open", this.element).focus();
  }
}

// ---------------------------------------------------------------- the tab that takes words

class Prompted extends Panel {
  listen() {
    one("form", this.element).addEventListener("submit", (event) => {
      event.preventDefault();
      this.run();
    });
    if (about.generator) {
      one(".goes", this.element).textContent = `Your words go to ${about.generator.server} (${about.generator.model}); nothing else does.`;
    }
  }

  add() {} // pasted pictures are for the other tabs

  body() {
    const prompt = one("textarea", this.element).value;
    return { body: JSON.stringify({ prompt }), headers: { "Content-Type": "application/json" } };
  }

  async run() {
    const make = one(".make", this.element);
    make.disabled = true; // a second press would pay for a second picture
    try {
      await super.run();
    } finally {
      make.disabled = false;
    }
  }

  actions(record) {
    const row = made("div", "", { className: "actions" });
    const { picture, ...rest } = record;
    row.append(
      made("a", "Save the picture", { className: "button", href: picture, download: record.provenance.path }),
      button("Save the record", () => save("faceproof-generate.json", "application/json", JSON.stringify(rest, null, 1))),
    );
    return row;
  }
}

// ---------------------------------------------------------------- what is shown

function figure(record) {
  const from = record.provenance;
  const box = made("figure", "", { className: "made" });
  const cost = from.cost === null ? "" : `, about ${from.cost.toFixed(3)} US dollars`;
  box.append(
    made("img", "", { src: record.picture, alt: `Made from: ${from.prompt}` }),
    made("figcaption", `${from.prompt} (${from.model} at ${from.server}, ${from.width} × ${from.height}, ${from.created}${cost})`),
  );
  return box;
}

function spoken(verb, record) {
  if (verb === "compare") return record.sentence;
  if (verb === "explain") return `Explained: face ${record.face_number} of ${record.faces}, ${record.face.verdict}.`;
  if (verb === "duplicates") {
    return record.clusters ? `${record.clustered} of ${record.pictures} pictures have copies among them.` : "No copies were found.";
  }
  if (verb === "generate") {
    if (!record.result) return `The picture is made, but could not be checked: ${record.unchecked}.`;
    const said = record.result.verdict ?? "no face was found, so there is no verdict";
    return `Made by a generator. What the detector says: ${said}.`;
  }
  if (record.status === "no_face") return "No face was found, so there is no verdict.";
  return `Done: ${record.verdict}.`;
}

function thumbnail(file) {
  const picture = made("img", "", { alt: "" });
  const address = URL.createObjectURL(file);
  picture.onload = picture.onerror = () => URL.revokeObjectURL(address);
  picture.src = address;
  return picture;
}

function groups(record, files) {
  const found = record.groups.map((group) => {
    const box = made("section", "", { className: "group" });
    const list = made("ul");
    for (const member of group.members) {
      const item = made("li");
      const view = member.view === "as it is" ? "" : `, ${member.view}`;
      item.append(thumbnail(files[member.index]), made("div", member.path), made("div", `${member.distance} bits${view}`, { className: "soft" }));
      list.append(item);
    }
    box.append(made("h3", `Group ${group.number}: ${group.size} pictures`), list);
    return box;
  });
  const bad = record.records.filter((one_) => one_.error || one_.flat);
  if (bad.length) {
    const box = made("section", "", { className: "group" });
    const list = made("div");
    for (const each of bad) list.append(made("p", `${each.path}: ${each.error ?? "hardly any contrast, so its hash says nothing"}`));
    box.append(made("h3", "Left out"), list);
    found.push(box);
  }
  return found;
}

function table(caption, head, rows) {
  const box = made("div", "", { className: "scroll", tabIndex: 0 });
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", caption);
  const found = made("table");
  const top = found.createTHead().insertRow();
  for (const name of head) top.append(made("th", name, { scope: "col" }));
  const body = found.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const value of row) line.insertCell().textContent = value;
  }
  box.append(found);
  return box;
}

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

function model(card) {
  const box = made("section", "", { className: "model" });
  const limits = made("ul");
  for (const limit of card.limits) limits.append(made("li", limit));
  box.append(
    made("h3", `${card.name} ${card.version}`),
    made("p", card.description),
    made("p", `Licence: ${card.licence}`, { className: "soft" }),
    made("h4", "What it cannot say"),
    limits,
    made("h4", "How often it errs"),
    table(`How often ${card.name} errs`, ["pictures", "photographs", "generated", "AUC", "found at 1 % false alarms"],
      Object.entries(card.metrics).map(([name, row]) => [
        name, row.photographs, row.generated, Number(row.auc).toFixed(3),
        row.tpr_at_fpr_1 === undefined ? "not measured" : percent(row.tpr_at_fpr_1),
      ])),
    made("h4", "Thresholds"),
    table(`Thresholds of ${card.name}`, ["false alarms", "score", "rests on photographs", "method"],
      card.operating_points.map((point) => [percent(point.fpr), point.threshold.toFixed(2), point.photographs, point.method])),
  );
  return box;
}

async function showModels() {
  const panel = one("#panel-models");
  if (one(".model", panel)) return;
  say(panel, "Reading the cards…", "busy");
  try {
    const cards = await (await ask("api/v1/models")).json();
    one(".result", panel).replaceChildren(...cards.map(model));
    say(panel, "");
  } catch (error) {
    say(panel, error.message, "bad");
  }
}

function button(text, action) {
  return made("button", text, { type: "button", onclick: action });
}

function save(name, type, content) {
  const link = made("a", "", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// ---------------------------------------------------------------- tabs

const panels = {};

function show(verb, focus = false) {
  for (const tab of all("[role=tab]")) {
    const chosen = tab.id === `tab-${verb}`;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    one(`#${tab.getAttribute("aria-controls")}`).hidden = !chosen;
    if (chosen) tab.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (chosen && focus) tab.focus();
  }
  for (const panel of Object.values(panels)) if (panel.stream && panel.verb !== verb) panel.closeCamera();
  history.replaceState(null, "", `#${verb}`);
  if (verb === "models") showModels();
}

function listenToTabs() {
  const tabs = () => all("[role=tab]").filter((tab) => !tab.hidden);
  for (const tab of tabs()) {
    tab.addEventListener("click", () => show(tab.id.slice(4)));
    tab.addEventListener("keydown", (event) => {
      const own = tabs();
      const place = own.indexOf(tab);
      const next = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: own.length - 1 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      show(own[(next + own.length) % own.length].id.slice(4), true);
    });
  }
}

function active() {
  return panels[one("[role=tab][aria-selected=true]").id.slice(4)];
}

async function begin() {
  about = await (await ask("api/v1/about")).json();
  one("#version").textContent = `faceproof ${about.version}, model ${about.model}.`;
  for (const tab of all("[role=tab]")) {
    const verb = tab.id.slice(4);
    tab.hidden = verb !== "models" && !about.verbs.includes(verb);
  }
  for (const element of all("[role=tabpanel]")) {
    const verb = element.dataset.verb;
    if (verb === "generate") panels[verb] = new Prompted(element);
    else if (verb !== "models") panels[verb] = new Panel(element);
  }
  for (const form of all(".by-url")) form.hidden = !about.urls;
  listenToTabs();
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) active()?.add(files);
  });
  // A file dropped beside the field would replace the page.
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
  const wanted = location.hash.slice(1);
  show(wanted === "models" || about.verbs.includes(wanted) ? wanted : "check");
  document.documentElement.dataset.ready = "true";
}

begin();
