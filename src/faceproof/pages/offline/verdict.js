// From scores to the three answers: curves.py, fusion.py, mixture.py and verdict.py in JavaScript. Sentences come from Python.

export const sigmoid = (value) => 0.5 * (1 + Math.tanh(value / 2));

/** Log-odds of generated for a score, by the card's calibration. */
export function curve(calibration, score) {
  if (calibration.method === "Platt") return calibration.slope * score + calibration.intercept;
  if (calibration.method === "temperature") return score / calibration.temperature;
  const { scores, log_odds: values } = calibration, last = scores.length - 1;
  let right = 0;
  while (right <= last && scores[right] <= score) right += 1;
  if (right === 0) return values[0];
  if (right > last) return values[last];
  const [low, high] = [values[right - 1], values[right]];
  const slope = (high - low) / (scores[right] - scores[right - 1]);
  return Math.min(high, Math.max(low, slope * (score - scores[right - 1]) + low));
}

/** One term's weight: natural log-odds for a score. */
function weigh(term, score, tilt) {
  const held = Math.min(term.high, Math.max(term.low, score));
  return term.slope * (term.curve ? curve(term.curve, held) + tilt * held : held);
}

function odds(weight) {
  const value = Math.exp(Math.min(Math.abs(weight), 14));
  return value < 100 ? value.toFixed(1) : Math.round(value).toLocaleString("en-US");
}

const signed = (value) => (value < 0 ? "" : "+") + value.toFixed(2);

/** Pieces whose weights add up to the log-odds of generated: [{name, weight, sentence}]. */
export function evidence(combiner, scores) {
  const pieces = combiner.start ? [combiner.start] : [];
  for (const term of combiner.terms.filter(({ name }) => name in scores)) {
    const weight = weigh(term, scores[term.name], combiner.tilt);
    const words = { odds: odds(weight), leaning: weight > 0 ? "generated" : "photograph", score: signed(scores[term.name]) };
    const sentence = term.sentence.replace(/\{(odds|leaning|score)\}/g, (_, word) => words[word]);
    pieces.push({ name: term.title, weight, sentence });
  }
  return pieces;
}

/** The sentence of the alarm for unknown generators, where this face is as unlike photographs as few are; else null. */
export function alarm(combiner, scores) {
  const warning = combiner.alarm;
  if (!warning || !(warning.term in scores)) return null;
  const hit = [...warning.limits].reverse().find(([limit]) => scores[warning.term] >= limit);
  return hit && hit[1] <= warning.fpr ? hit[2] : null;
}

/** What being cut like StyleGAN's training pictures says: a piece of evidence, or none. */
export function alignment(landmarks, width, height, faces, reference) {
  if (!reference || faces !== 1 || Math.abs(width - height) > reference.square * Math.max(width, height)) return [];
  const sigmas = landmarks.map(([x, y], k) => {
    const [[mx, my], [sx, sy]] = [reference.mean[k], reference.std[k]];
    return Math.max(Math.abs(x / width - mx) / sx, Math.abs(y / height - my) / sy);
  });
  const worst = Math.max(...sigmas);
  if (!(worst <= reference.sigmas)) return [];
  return [{ name: "alignment", weight: reference.weight, sentence: reference.sentence.replace("{sigmas}", worst.toFixed(1)) }];
}

/** The verdict on one face: verdict.decide. extra: pieces of evidence besides the detectors'. */
export function decide(scores, quality, extra, config) {
  const pieces = [...evidence(config.combiner, scores), ...extra], total = pieces.reduce((sum, piece) => sum + piece.weight, 0);
  const warning = alarm(config.combiner, scores), rule = config.rule;
  let verdict = total >= rule.high ? "generated" : total < rule.low ? "photograph" : "inconclusive";
  let reasons = [config.answers[verdict]];
  if (quality.length) {
    verdict = "inconclusive";
    reasons = quality.map(({ sentence }) => `not judged: ${sentence}`);
  } else if (warning !== null && verdict === "photograph") {
    verdict = "inconclusive";
    reasons = [warning];
  }
  const ordered = [...pieces].sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
  const said = ordered.filter((piece) => piece !== config.combiner.start).map((piece) => piece.sentence);
  return {
    score: scores.supervised, log_odds: total, probability: sigmoid(total), verdict, alarm: warning !== null,
    evidence: pieces, reasons: [...reasons, ...said],
  };
}

/** The tensors of a small safetensors file (F32 and F64). */
export function tensors(buffer) {
  const view = new DataView(buffer), length = Number(view.getBigUint64(0, true));
  const described = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length))), found = {};
  const { __metadata__: about, ...all } = described;
  for (const [name, { dtype, shape, data_offsets: [start, end] }] of Object.entries(all)) {
    const bytes = buffer.slice(8 + length + start, 8 + length + end);
    found[name] = { shape, values: dtype === "F64" ? new Float64Array(bytes) : new Float32Array(bytes) };
  }
  return { kind: about.kind, ...found };
}

/** Log-density of an embedding under a mixture, nats: mixture.Mixture.log_likelihood. */
export function logLikelihood(mixture, embedding) {
  let x = Float64Array.from(embedding), beyond = 0;
  if (mixture.basis) [x, beyond] = projected(mixture, x);
  const [count, d] = mixture.means.shape, logs = [];
  for (let k = 0; k < count; k++) {
    const [scale, distance] = turned(mixture, x, k, d);
    logs.push(scale - 0.5 * distance + Math.log(mixture.weights.values[k]) - 0.5 * d * Math.log(2 * Math.PI));
  }
  const top = Math.max(...logs);
  return top + Math.log(logs.reduce((sum, value) => sum + Math.exp(value - top), 0)) + beyond;
}

/** Whitened principal components, and the log-density of what they leave out. */
function projected({ mean, basis, spread, residual }, x) {
  const [whole, kept] = basis.shape, along = new Float64Array(kept);
  let squares = 0, beyond = 0, inside = 0;
  for (let i = 0; i < whole; i++) {
    const centred = x[i] - mean.values[i];
    squares += centred * centred;
    for (let j = 0; j < kept; j++) along[j] += centred * basis.values[i * kept + j];
  }
  for (let j = 0; j < kept; j++) {
    inside += along[j] ** 2;
    along[j] /= spread.values[j];
    beyond -= Math.log(spread.values[j]);
  }
  const left = whole - kept, variance = residual.values[0];
  if (left) beyond -= 0.5 * (Math.max(squares - inside, 0) / variance + left * Math.log(2 * Math.PI * variance));
  return [along, beyond];
}

/** Log-determinant of component k's factor, and the squared length of what it makes of x. */
function turned({ kind, means, precisions: { values } }, x, k, d) {
  let scale = 0, distance = 0;
  const from = kind === "tied" ? 0 : k * (kind === "diag" ? d : d * d);
  for (let j = 0; j < d; j++) {
    let sum = 0;
    if (kind === "diag") sum = (x[j] - means.values[k * d + j]) * values[from + j];
    else for (let i = 0; i <= j; i++) sum += (x[i] - means.values[k * d + i]) * values[from + i * d + j];  // upper triangle
    scale += Math.log(values[kind === "diag" ? from + j : from + j * d + j]);
    distance += sum * sum;
  }
  return [scale, distance];
}

/** How unlike photographs an embedding is, in spreads from the usual: AnomalyScorer.score. */
export function unlike({ mixture, centre, spread, limit }, embedding) {
  const value = (-logLikelihood(mixture, embedding) - centre) / spread;
  return Math.fround(Math.min(limit, Math.max(-limit, value)));
}
