"use strict";
(() => {
  const data = JSON.parse(document.getElementById("faceproof-map").textContent);
  const id = (name) => document.getElementById(name);
  const count = data.path.length;
  const stage = id("stage"), base = id("points"), over = id("over"), card = id("card");
  const baseContext = base.getContext("2d", { alpha: false }), overContext = over.getContext("2d");
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // ---- colours: Okabe and Ito's first, told apart by the colour-blind too; then hues by the golden angle
  const VERDICTS = { photograph: [0, 114, 178], inconclusive: [230, 159, 0], generated: [213, 94, 0] };
  const PALETTE = [
    [0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233], [150, 110, 60], [120, 94, 240],
  ];
  const GREY = [140, 146, 156], NAMELESS = new Set(["(none)", "(not stated)"]);
  const MOST = 200; // categories told apart; the rarer ones share one entry

  function hue(number) {
    const angle = (number * 137.508) % 360, part = (shift) => {
      const k = (shift + angle / 30) % 12;
      return Math.round(255 * (0.5 - 0.32 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
    };
    return [part(0), part(8), part(4)];
  }

  // ---- facets: what points are coloured by
  function makeFacet(name, values) {
    const counts = new Map();
    for (const value of values) counts.set(value, (counts.get(value) || 0) + 1);
    let names = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || a.localeCompare(b, "en", { numeric: true }));
    if (name === "verdict") names = Object.keys(VERDICTS).filter((verdict) => counts.has(verdict));
    const kept = names.slice(0, names.length > MOST ? MOST - 1 : MOST), place = new Map(kept.map((key, i) => [key, i]));
    const rest = names.length - kept.length;
    const of = Uint8Array.from(values, (value) => place.get(value) ?? kept.length);
    let next = 0;
    const categories = kept.map((key) => {
      const colour = name === "verdict" ? VERDICTS[key] : NAMELESS.has(key) ? GREY
        : next < PALETTE.length ? PALETTE[next++] : hue(next++);
      return { name: key, count: counts.get(key), colour, on: true };
    });
    if (rest) {
      const others = names.slice(kept.length).reduce((sum, key) => sum + counts.get(key), 0);
      categories.push({ name: `${rest} others`, count: others, colour: GREY, on: true });
    }
    return { name, values, of, categories };
  }
  const facets = [["verdict", data.verdict], ...Object.entries(data.columns)].map(([name, values]) => makeFacet(name, values));
  let facet = facets[0];

  // ---- state
  const xs = Float64Array.from(data.x), ys = Float64Array.from(data.y);
  const lower = data.path.map((path) => path.toLowerCase());
  const found = new Uint8Array(count).fill(1), chosen = new Uint8Array(count);
  let width = 1, height = 1, ratio = 1, scale = 1, left = 0, top = 0, fitted = 1;
  let image = null, pixels = null, asked = false, stale = true;
  let current = -1, drawing = null, dragging = null, lassoMode = false, thumbs = false;

  const sx = (i) => xs[i] * scale + left, sy = (i) => (1 - ys[i]) * scale + top;
  const visible = (i) => facet.categories[facet.of[i]].on;
  const active = (i) => found[i] && visible(i);

  // ---- drawing: points are stamped into a pixel buffer, which is fast without a graphics card
  function css(name) {
    const [r, g, b] = getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1)
      .replace(/^(.)(.)(.)$/, "$1$1$2$2$3$3").match(/../g).map((part) => parseInt(part, 16));
    return [r, g, b];
  }
  const packed = ([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0;

  function disk(radius) {
    const reach = Math.ceil(radius + 0.5), full = [], edge = [];
    for (let dy = -reach; dy <= reach; dy++) for (let dx = -reach; dx <= reach; dx++) {
      const cover = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(dx, dy)));
      if (cover > 0.95) full.push([dx, dy]);
      else if (cover > 0.05) edge.push([dx, dy, cover]);
    }
    return { reach, full, edge };
  }
  function offsets(shape, stride) {
    return {
      reach: shape.reach,
      full: Int32Array.from(shape.full, ([dx, dy]) => dy * stride + dx),
      edge: Int32Array.from(shape.edge, ([dx, dy]) => dy * stride + dx),
      cover: Float64Array.from(shape.edge, ([, , cover]) => cover),
    };
  }
  function stamp(shape, x, y, colour, word) {
    const { reach, full, edge, cover } = shape;
    const bytes = image.data;
    if (x < reach || y < reach || x >= image.width - reach || y >= image.height - reach) return;
    const at = y * image.width + x;
    for (let k = 0; k < full.length; k++) pixels[at + full[k]] = word;
    for (let k = 0; k < edge.length; k++) {
      const byte = 4 * (at + edge[k]), share = cover[k];
      bytes[byte] += (colour[0] - bytes[byte]) * share;
      bytes[byte + 1] += (colour[1] - bytes[byte + 1]) * share;
      bytes[byte + 2] += (colour[2] - bytes[byte + 2]) * share;
    }
  }

  // The buffer has a border of this many pixels, so that points are cut off at the edge and not left out.
  const BORDER = 24;
  function drawPoints() {
    const wide = Math.ceil(width * ratio) + 2 * BORDER, high = Math.ceil(height * ratio) + 2 * BORDER;
    if (!image || image.width !== wide || image.height !== high) {
      image = new ImageData(wide, high);
      pixels = new Uint32Array(image.data.buffer);
    }
    const paper = css("--paper"), ink = css("--ink");
    pixels.fill(packed(paper));
    const radius = Math.min(8, 2.6 * Math.pow(Math.max(1, scale / fitted), 0.3)) * ratio;
    const dot = offsets(disk(radius), wide), ring = offsets(disk(radius + 1.6 * ratio), wide);
    const faint = paper.map((value, k) => Math.round(value + (GREY[k] - value) * 0.35));
    const words = facet.categories.map((category) => packed(category.colour)), faintWord = packed(faint), inkWord = packed(ink);
    for (const pass of [0, 1, 2]) { // not found, the others, those listed on top
      for (let i = 0; i < count; i++) {
        if (!visible(i) || pass !== (chosen[i] ? 2 : found[i] ? 1 : 0)) continue;
        const x = Math.round(sx(i) * ratio) + BORDER, y = Math.round(sy(i) * ratio) + BORDER;
        if (pass === 2) stamp(ring, x, y, ink, inkWord);
        if (pass === 0) stamp(dot, x, y, faint, faintWord);
        else stamp(dot, x, y, facet.categories[facet.of[i]].colour, words[facet.of[i]]);
      }
    }
    baseContext.putImageData(image, -BORDER, -BORDER);
    if (thumbs) drawThumbs();
  }

  // ---- thumbnails
  const { side, per_row: perRow } = data.thumbnails;
  const images = data.thumbnails.sheets.map((source) => Object.assign(new Image(), { src: source }));
  for (const sheet of images) sheet.decode().then(() => { if (thumbs) redraw(); }, () => {});
  function drawThumb(context, i, x, y, size) {
    const sheet = images[Math.floor(i / (perRow * perRow))], place = i % (perRow * perRow);
    if (!sheet.complete) return false;
    context.drawImage(sheet, (place % perRow) * side, Math.floor(place / perRow) * side, side, side, x, y, size, size);
    return true;
  }
  const tile = Math.min(side, 48), cell = tile + 4;
  let tiles = new Map(); // cell -> the point whose picture it shows
  // Cells move with the map, so that a picture keeps its neighbours while it is dragged.
  const cellOf = (x, y) => [Math.floor((x - left) / cell), Math.floor((y - top) / cell)];
  function drawThumbs() {
    tiles = new Map();
    const ink = css("--ink");
    baseContext.save();
    baseContext.scale(ratio, ratio);
    for (let i = 0; i < count; i++) {
      const x = sx(i), y = sy(i);
      if (!active(i) || x < 0 || y < 0 || x > width || y > height) continue;
      const [column, row] = cellOf(x, y), key = `${column},${row}`;
      if (tiles.has(key)) continue;
      tiles.set(key, i);
      const cx = Math.round(left + column * cell), cy = Math.round(top + row * cell);
      baseContext.fillStyle = `rgb(${chosen[i] ? ink : facet.categories[facet.of[i]].colour})`; // the frame
      baseContext.fillRect(cx, cy, cell, cell);
      drawThumb(baseContext, i, cx + 2, cy + 2, tile);
    }
    baseContext.restore();
  }
  const pointed = (x, y) => (thumbs ? tiles.get(cellOf(x, y).join()) ?? -1 : nearest(x, y, 10));

  function drawOver() {
    overContext.setTransform(ratio, 0, 0, ratio, 0, 0);
    overContext.clearRect(0, 0, width, height);
    const [r, g, b] = css("--ink");
    overContext.strokeStyle = `rgb(${r},${g},${b})`;
    if (drawing && drawing.length > 1) {
      overContext.lineWidth = 1.5;
      overContext.fillStyle = `rgba(${r},${g},${b},.08)`;
      overContext.beginPath();
      for (const [x, y] of drawing) overContext.lineTo(x, y);
      overContext.closePath();
      overContext.fill();
      overContext.stroke();
    }
    if (current >= 0) {
      overContext.lineWidth = 2;
      overContext.beginPath();
      overContext.arc(sx(current), sy(current), 8, 0, 2 * Math.PI);
      overContext.stroke();
    }
  }
  function redraw(points = true) {
    stale ||= points;
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      if (stale) drawPoints();
      stale = false;
      drawOver();
      placeCard();
    });
  }

  // ---- view
  const extent = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [1, 0]);
  const [xLow, xHigh] = extent(xs), [yLow, yHigh] = extent(ys);
  function fit() {
    const margin = 32, room = (length, span) => Math.max(1, length - 2 * margin) / Math.max(span, 0.02);
    scale = fitted = Math.min(room(width, xHigh - xLow), room(height, yHigh - yLow));
    left = width / 2 - (xLow + xHigh) / 2 * scale;
    top = height / 2 - (1 - (yLow + yHigh) / 2) * scale;
    redraw();
  }
  function zoom(factor, x = width / 2, y = height / 2) {
    const next = Math.min(fitted * 2000, Math.max(fitted * 0.3, scale * factor)), real = next / scale;
    left = x - (x - left) * real;
    top = y - (y - top) * real;
    scale = next;
    redraw();
  }
  function pan(dx, dy) { left += dx; top += dy; redraw(); }
  function resize() {
    const before = [width, height];
    width = Math.max(1, stage.clientWidth);
    height = Math.max(1, stage.clientHeight);
    ratio = Math.min(2, devicePixelRatio || 1);
    for (const canvas of [base, over]) {
      canvas.width = Math.ceil(width * ratio);
      canvas.height = Math.ceil(height * ratio);
    }
    if (before[0] === 1) fit();
    else pan((width - before[0]) / 2, (height - before[1]) / 2);
  }

  // ---- one point: hover card
  function nearest(x, y, reach) {
    let best = -1, least = reach * reach;
    for (let i = 0; i < count; i++) {
      const dx = sx(i) - x, dy = sy(i) - y, far = dx * dx + dy * dy;
      if (far <= least && active(i)) { least = far; best = i; }
    }
    return best;
  }
  function words(i) {
    const p = data.probability[i];
    const lines = [`${data.verdict[i]}${p === null ? ", not judged" : `, probability of generated ${p.toFixed(3)}`}`];
    for (const other of facets.slice(1)) lines.push(`${other.name}: ${other.values[i]}`);
    return lines;
  }
  function show(i, say = false) {
    if (i === current && !say) return;
    current = i;
    card.hidden = i < 0;
    if (i >= 0) {
      const context = id("thumb").getContext("2d");
      context.clearRect(0, 0, 96, 96);
      const paint = () => { if (current === i) drawThumb(context, i, 0, 0, 96); };
      const sheet = images[Math.floor(i / (perRow * perRow))];
      if (sheet.complete) paint(); else sheet.decode().then(paint, () => {});
      const facts = id("facts"), head = document.createElement("b");
      head.textContent = data.path[i];
      facts.replaceChildren(head, ...words(i).map((line) => {
        const row = document.createElement("div");
        row.textContent = line;
        return row;
      }));
      if (say) id("said").textContent = [data.path[i], ...words(i)].join(", ");
    }
    redraw(false);
  }
  function placeCard() {
    if (current < 0) return;
    const x = sx(current), y = sy(current), wide = card.offsetWidth, high = card.offsetHeight;
    card.style.left = `${Math.max(4, x + 14 + wide > width ? x - 14 - wide : x + 14)}px`;
    card.style.top = `${Math.max(4, Math.min(height - high - 4, y + 14))}px`;
  }

  // ---- lists
  function inside(x, y, polygon) { // crossings of a ray to the right, even-odd
    let odd = false;
    for (let k = 0, last = polygon.length - 1; k < polygon.length; last = k++) {
      const [ax, ay] = polygon[k], [bx, by] = polygon[last];
      if ((ay > y) !== (by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax) odd = !odd;
    }
    return odd;
  }
  function list(test, add) {
    for (let i = 0; i < count; i++) chosen[i] = (add && chosen[i]) || (active(i) && test(i)) ? 1 : 0;
    listed();
  }
  const listing = () => [...data.path.keys()].filter((i) => chosen[i]);
  function listed() {
    const all = listing();
    id("count").textContent = all.length;
    id("list").value = all.map((i) => data.path[i]).join("\n");
    id("said").textContent = `${all.length} pictures listed`;
    redraw();
  }
  function csv() {
    // A leading = + - @ would be run as a formula by a spreadsheet: an apostrophe stops it.
    const cell = (value) => {
      const text = typeof value === "string" && /^[=+\-@\t\r']/.test(value) ? `'${value}` : String(value ?? "");
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const more = facets.slice(1), rows = [["path", "x", "y", "verdict", "probability", ...more.map((f) => f.name)]];
    for (const i of listing()) {
      rows.push([data.path[i], data.x[i], data.y[i], data.verdict[i], data.probability[i], ...more.map((f) => f.values[i])]);
    }
    return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
  }
  async function copy() {
    try {
      await navigator.clipboard.writeText(csv());
      id("said").textContent = "copied";
    } catch { // no permission: the list is marked, so that Ctrl-C takes the names
      id("list").focus();
      id("list").select();
    }
  }
  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "faceproof-map.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // ---- legend and search
  function counted() {
    let shown = 0;
    for (let i = 0; i < count; i++) shown += active(i) ? 1 : 0;
    id("shown").textContent = `${shown} of ${count} shown`;
    if (current >= 0 && !active(current)) show(-1);
    redraw();
  }
  function legend() {
    id("legend").replaceChildren(...facet.categories.map((category, place) => {
      const row = document.createElement("li"), label = document.createElement("label"), box = document.createElement("input");
      const swatch = document.createElement("span"), name = document.createElement("span"), only = document.createElement("button");
      box.type = "checkbox";
      box.checked = category.on;
      box.addEventListener("change", () => { category.on = box.checked; counted(); });
      swatch.className = "swatch";
      swatch.style.background = `rgb(${category.colour})`;
      name.className = "name";
      name.textContent = `${category.name || "(empty)"} ${category.count}`;
      only.textContent = "only";
      only.setAttribute("aria-label", `only ${category.name}`);
      only.addEventListener("click", () => { turn((_, k) => k === place); id("legend").querySelectorAll("button")[place].focus(); });
      label.append(box, swatch, name);
      row.append(label, only);
      return row;
    }));
  }
  function turn(test) {
    facet.categories.forEach((category, place) => { category.on = test(category, place); });
    legend();
    counted();
  }
  function search() {
    const wanted = id("search").value.toLowerCase();
    for (let i = 0; i < count; i++) found[i] = lower[i].includes(wanted) ? 1 : 0;
    counted();
  }

  // ---- mouse, touch, pen
  const at = (event) => { const box = over.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  over.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    over.setPointerCapture(event.pointerId);
    const place = at(event);
    if (lassoMode || event.shiftKey) drawing = [place];
    else dragging = { last: place, moved: 0 };
  });
  over.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (drawing) { drawing.push([x, y]); redraw(false); }
    else if (dragging) {
      const [dx, dy] = [x - dragging.last[0], y - dragging.last[1]];
      dragging.moved += Math.abs(dx) + Math.abs(dy);
      dragging.last = [x, y];
      pan(dx, dy);
    } else show(pointed(x, y));
  });
  over.addEventListener("pointerup", (event) => {
    const add = event.ctrlKey || event.metaKey;
    if (drawing) {
      const polygon = drawing;
      drawing = null;
      if (polygon.length > 2) list((i) => inside(sx(i), sy(i), polygon), add);
    } else if (dragging && dragging.moved < 4) {
      const i = pointed(...at(event));
      if (i >= 0) { chosen[i] ^= 1; listed(); show(i); }
    }
    dragging = null;
    redraw(false);
  });
  over.addEventListener("pointercancel", () => { drawing = dragging = null; redraw(false); });
  over.addEventListener("pointerleave", () => { if (!dragging && !drawing) show(-1); });
  over.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY * 0.0015), ...at(event)); }, { passive: false });

  // ---- keyboard
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  function step([ux, uy]) { // the nearest point in that quarter of the plane
    let best = -1, least = Infinity;
    if (current < 0) best = nearest(width / 2, height / 2, Infinity);
    else for (let i = 0; i < count; i++) {
      const dx = sx(i) - sx(current), dy = sy(i) - sy(current), along = dx * ux + dy * uy, across = Math.abs(dx * uy) + Math.abs(dy * ux);
      const far = along + 2 * across;
      if (along > 0 && across <= along && far < least && active(i)) { least = far; best = i; }
    }
    if (best < 0) return;
    show(best, true);
    const [x, y] = [sx(best), sy(best)];
    if (x < 0 || y < 0 || x > width || y > height) pan(width / 2 - x, height / 2 - y);
  }
  function setLasso(on) {
    lassoMode = on;
    id("lasso").setAttribute("aria-pressed", on);
    over.classList.toggle("lasso", on);
  }
  function setThumbs(on) { thumbs = on; id("thumbs").setAttribute("aria-pressed", on); redraw(); }
  over.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow && event.shiftKey) step(arrow);
    else if (arrow) pan(-60 * arrow[0], -60 * arrow[1]);
    else if (event.key === "+" || event.key === "=") zoom(1.3);
    else if (event.key === "-") zoom(1 / 1.3);
    else if (event.key === "0") fit();
    else if (event.key === " " && current >= 0) { chosen[current] ^= 1; listed(); }
    else if (event.key === "l" || event.key === "L") setLasso(!lassoMode);
    else if (event.key === "t" || event.key === "T") setThumbs(!thumbs);
    else if (event.key === "Escape") { drawing = null; setLasso(false); show(-1); redraw(false); }
    else return;
    event.preventDefault();
  });

  // ---- the rest of the page
  const press = (name, action) => id(name).addEventListener("click", action);
  press("lasso", () => setLasso(!lassoMode));
  press("thumbs", () => setThumbs(!thumbs));
  press("view", () => list((i) => sx(i) >= 0 && sy(i) >= 0 && sx(i) <= width && sy(i) <= height, false));
  press("in", () => zoom(1.3));
  press("out", () => zoom(1 / 1.3));
  press("fit", fit);
  press("all", () => turn(() => true));
  press("none", () => turn(() => false));
  press("copy", copy);
  press("save", save);
  press("clear", () => list(() => false, false));
  id("search").addEventListener("input", search);
  id("facet").append(...facets.map((one, place) => new Option(one.name, place)));
  id("facet").addEventListener("change", () => { facet = facets[id("facet").value]; legend(); counted(); });
  if (data.missing.length) {
    const unread = data.missing.filter((one) => one.status === "error").length, section = id("missing");
    section.hidden = false;
    section.querySelector("summary").textContent =
      `${data.missing.length} pictures have no place here: ${unread} not readable, ${data.missing.length - unread} without a face`;
    section.querySelector("ul").append(...data.missing.map((one) => {
      const row = document.createElement("li");
      row.textContent = `${one.path}: ${one.why}`;
      return row;
    }));
  }
  id("notes").append(...[...data.notes, `made ${data.made}`, `with ${data.made_with}`,
    "A map shows what looks alike to the network. It is no verdict: near a generated face is no proof."].map((line) => {
    const row = document.createElement("li");
    row.textContent = line;
    return row;
  }));
  dark.addEventListener("change", () => redraw());
  new ResizeObserver(resize).observe(stage);
  resize();
  legend();
  counted();
  // For scripts and tests: where a point lies in the window, what is listed, what is pointed at.
  window.faceproofMap = Object.freeze({
    place: (i) => { const box = over.getBoundingClientRect(); return [box.left + sx(i), box.top + sy(i)]; },
    listed: listing,
    current: () => current,
    csv,
  });
})();
