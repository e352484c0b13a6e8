// From a face network's maps to boxes: fer_edge/inference/search.py in JavaScript.

import { cut, resize, round } from "./image.js";

const BOX_CHANNELS = 5; // Score, shift in x and y, log width and log height.
const GREY = 114; // Level of what lies beyond a picture's edge.
const LOG_SIDE = [-4, 6]; // Bounds of a side's logarithm, beyond which nothing is a face.
const MOST = 5000; // Cells that are looked at, the surest first.

/**
 * Find the faces of a picture, largest first.
 *
 * @param {Function} run The network: (Float32Array, [1, 3, H, W]) => maps, one {data, dims} a stride.
 * @param {object} frame BGR.
 * @param {object} detector Its `DetectorSpec`, with `min_face`, `max_side` and `smallest`.
 * @param {boolean} live Whether it is one of many frames a second: then it is searched once, at no
 *   larger a size than its least faces need.
 * @returns {Promise<object[]>} Faces with `box`, `score` and `points`.
 */
export async function detect(run, frame, detector, live) {
  const { width, height } = frame;
  const longer = Math.max(width, height);
  const side = Math.min(detector.side, detector.max_side ?? detector.side);
  // Faces at the very limit are often missed.
  const needed = (1.25 * detector.smallest) / detector.min_face;
  const whole = Math.min(1, side / longer, live ? needed : 1);
  const wanted = detector.max_side
    ? detector.max_side / longer
    : Math.max(needed, detector.working_side / longer);
  const scale = Math.min(1, wanted);
  const found = await look(run, shrink(frame, whole), detector, 0, 0, whole);
  if (scale > whole && !live) {
    found.push(...(await searchTiles(run, frame, detector, side, scale, scale / whole)));
  }
  return suppress(found, detector.overlap)
    .filter(({ corners: [x1, y1, x2, y2] }) => Math.max(x2 - x1, y2 - y1) >= detector.min_face)
    .map(({ corners, score, points }) => ({ box: inside(corners, width, height), score, points }))
    .filter(({ box }) => Math.min(box[2], box[3]) > 0)
    .sort((one, other) => other.box[2] * other.box[3] - one.box[2] * one.box[3] || before(one, other));
}

function before({ box: one }, { box: other }) {
  const place = one.findIndex((value, index) => value !== other[index]);
  return place < 0 ? 0 : one[place] - other[place];
}

function inside([x1, y1, x2, y2], width, height) {
  const left = Math.max(0, round(x1));
  const top = Math.max(0, round(y1));
  return [left, top, Math.min(width, round(x2)) - left, Math.min(height, round(y2)) - top];
}

/** Make a picture smaller by averaging areas. */
function shrink(frame, scale) {
  if (scale >= 1) return frame;
  const side = (length) => Math.max(1, round(length * scale));
  return resize(frame, side(frame.width), side(frame.height));
}

/** Search a picture as it is; return its faces as pixels of the one that it is a part of. */
async function look(run, picture, { strides, points, threshold }, left, top, scale) {
  const { input, dims } = toInput(picture, Math.max(...strides));
  const maps = await run(input, dims);
  const moved = (x, y) => [(x + left) / scale, (y + top) / scale];
  return maps.flatMap((map, index) =>
    decode(map, strides[index], points.length, threshold).map(({ corners, score, points }) => ({
      corners: [...moved(corners[0], corners[1]), ...moved(corners[2], corners[3])],
      score,
      points: points.map(([x, y]) => moved(x, y)),
    })),
  );
}

/** Look for small faces in tiles of a larger form of the picture. */
async function searchTiles(run, frame, detector, side, scale, finer) {
  const picture = shrink(frame, scale);
  const coarsest = Math.max(...detector.strides);
  const largest = Math.min(Math.floor(side / 2), Math.ceil(coarsest * Math.max(2, finer / 2)));
  const found = [];
  for (const row of tiles(picture.height, side, largest)) {
    for (const column of tiles(picture.width, side, largest)) {
      const { begin: left, end: right } = column;
      const { begin: top, end: bottom } = row;
      const part = cut(picture, left, top, right - left, bottom - top);
      const faces = await look(run, part, detector, left, top, scale);
      found.push(
        ...faces.filter(({ corners }) => {
          const [x1, y1, x2, y2] = corners.map((value) => value * scale);
          const x = (x1 + x2) / 2;
          const y = (y1 + y2) / 2;
          // Of the tiles that show a face, the one counts that has all of it.
          const own =
            x >= column.first && x < column.last && y >= row.first && y < row.last;
          return own && Math.max(x2 - x1, y2 - y1) <= largest;
        }),
      );
    }
  }
  return found;
}

/** Return begin and end of tiles along a length, and of the part of each that no other has. */
function tiles(length, side, overlap) {
  const count = length <= side ? 1 : Math.ceil((length - overlap) / (side - overlap));
  const begins = Array.from({ length: count }, (_, number) =>
    round((number * (length - side)) / Math.max(1, count - 1)),
  );
  return begins.map((begin, number) => ({
    begin: Math.max(0, begin),
    end: Math.min(length, begin + side),
    first: number === 0 ? -Infinity : (begin + begins[number - 1] + side) / 2,
    last: number === count - 1 ? Infinity : (begins[number + 1] + begin + side) / 2,
  }));
}

/** Return a picture as the network takes it, BGR planes, grey up to whole steps. */
function toInput({ width, height, data }, step) {
  const rows = Math.ceil(height / step) * step;
  const columns = Math.ceil(width / step) * step;
  const input = new Float32Array(3 * rows * columns).fill(GREY);
  for (let y = 0, from = 0; y < height; y += 1) {
    for (let x = 0, to = y * columns; x < width; x += 1, from += 3, to += 1) {
      input[to] = data[from];
      input[to + rows * columns] = data[from + 1];
      input[to + 2 * rows * columns] = data[from + 2];
    }
  }
  return { input, dims: [1, 3, rows, columns] };
}

/** Return the cells that score more than the threshold, with their corners and points. */
function decode({ data, dims }, stride, count, threshold) {
  const [, channels, rows, columns] = dims;
  if (channels !== BOX_CHANNELS + 2 * count) {
    throw new Error(
      `Expected ${BOX_CHANNELS + 2 * count} channels at stride ${stride} from the face detector, ` +
        `received ${channels}; export it again`,
    );
  }
  const cells = rows * columns;
  const least = Math.log(threshold / (1 - threshold));
  const found = [];
  for (let cell = 0; cell < cells; cell += 1) {
    if (!(data[cell] > least)) continue;
    const value = (channel) => data[channel * cells + cell];
    const middle = [(cell % columns) + 0.5, Math.floor(cell / columns) + 0.5];
    const half = (channel) => Math.exp(Math.min(Math.max(value(channel), LOG_SIDE[0]), LOG_SIDE[1])) / 2;
    const [x, y] = [middle[0] + value(1), middle[1] + value(2)];
    const [halfWidth, halfHeight] = [half(3), half(4)];
    const corners = [x - halfWidth, y - halfHeight, x + halfWidth, y + halfHeight];
    const points = Array.from({ length: count }, (_, number) =>
      [0, 1].map((axis) => (value(BOX_CHANNELS + 2 * number + axis) + middle[axis]) * stride),
    );
    if (![...corners, ...points.flat()].every(Number.isFinite)) continue;
    const score = 1 / (1 + Math.exp(-Math.min(data[cell], 80)));
    found.push({ corners: corners.map((value) => value * stride), score, points });
  }
  return found;
}

/** Return the faces to keep, the surest first: none overlaps a surer one by more. */
function suppress(found, overlap) {
  let left = [...found].sort((one, other) => other.score - one.score).slice(0, MOST);
  const kept = [];
  while (left.length) {
    const [best, ...others] = left;
    kept.push(best);
    left = others.filter((other) => overlapOf(best.corners, other.corners) <= overlap);
  }
  return kept;
}

function overlapOf(one, other) {
  const common = [0, 1].map((axis) =>
    Math.max(Math.min(one[axis + 2], other[axis + 2]) - Math.max(one[axis], other[axis]), 0),
  );
  const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
  const shared = common[0] * common[1];
  return shared / Math.max(area(one) + area(other) - shared, 1e-9);
}
