// From a batch of faces to probabilities: what fer_edge's Classifier does around its session.

import { flip } from "./preprocess.js";

const TOLERANCE = 0.01; // How far rows may be from summing to 1.

/**
 * Run the classifier.
 *
 * @param {Function} run The network: (Float32Array, count) => one row of numbers for each face.
 * @param {Float32Array} batch From `prepare`.
 * @param {number} count Faces in the batch.
 * @param {object} model Its `spec`, and `prior`: to what power of its own prior answers are divided.
 * @param {boolean} mirror Whether each answer is the mean of a face and its mirror image.
 * @returns {Promise<number[][]>} For each face the labels' probabilities, then the numbers beside.
 */
export async function predict(run, batch, count, { spec, prior }, mirror) {
  if (!count) return [];
  let rows = checked(await run(batch, count), spec);
  if (mirror) {
    const others = checked(await run(flip(batch, spec), count), spec);
    rows = rows.map((row, face) => row.map((value, column) => (value + others[face][column]) / 2));
  }
  return prior ? rows.map((row) => withoutPrior(row, spec, prior)) : rows;
}

function checked(rows, spec) {
  const labels = spec.labels.length;
  return rows.map((row) => {
    if (!row.every(Number.isFinite)) {
      throw new Error(
        "Expected probabilities, received infinite numbers or NaN; the model is damaged, or its " +
          "input is described wrongly: see --range, --mean and --std",
      );
    }
    const scores = row.slice(0, labels);
    if (spec.outputs === "logits") return [...softmax(scores), ...row.slice(labels)];
    const sum = scores.reduce((total, value) => total + value, 0);
    if (Math.min(...scores) < -TOLERANCE || Math.abs(sum - 1) > TOLERANCE) {
      throw new Error(
        `Expected probabilities that sum to 1, received ${scores.map((x) => x.toFixed(3))}; if ` +
          "these are logits, give --outputs logits",
      );
    }
    return row;
  });
}

function softmax(logits) {
  const most = Math.max(...logits);
  const shares = logits.map((value) => Math.exp(value - most));
  const sum = shares.reduce((total, value) => total + value, 0);
  return shares.map((value) => value / sum);
}

function withoutPrior(row, spec, power) {
  const labels = spec.labels.length;
  const shares = row.slice(0, labels).map((value, label) => value / spec.prior[label] ** power);
  const sum = shares.reduce((total, value) => total + value, 0);
  return [...shares.map((value) => value / sum), ...row.slice(labels)];
}

const plain = (value) => Math.round(value * 1e6) / 1e6;

/** Return what was found out about a face, as the records of `fer-edge classify` have it. */
export function result({ box, score }, row, { spec, uncertain }) {
  const named = (names, values) =>
    Object.fromEntries(names.map((name, index) => [name, plain(values[index])]));
  const labels = spec.labels.length;
  const confidence = Math.max(...row.slice(0, labels));
  return {
    box,
    detector_score: plain(score),
    emotion: confidence < uncertain ? "uncertain" : spec.labels[row.indexOf(confidence)],
    confidence: plain(confidence),
    probabilities: named(spec.labels, row),
    ...(spec.affect.length ? { affect: named(spec.affect, row.slice(labels)) } : {}),
  };
}
