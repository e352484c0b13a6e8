// Runs the models beside the page, which stays responsive: pictures in, records out.

import * as ort from "/runtime/ort.wasm.min.mjs";
import { predict, result } from "./classifier.js";
import { fromRgba } from "./image.js";
import { prepare } from "./preprocess.js";
import { detect } from "./search.js";

const MOST_THREADS = 4; // More help such small networks no further.
// Levels as they stand in the file, as OpenCV reads them; turned as EXIF asks.
const AS_STORED = {
  colorSpaceConversion: "none",
  premultiplyAlpha: "none",
  imageOrientation: "from-image",
};

ort.env.wasm.wasmPaths = "/runtime/";
// Threads need memory that they share, which browsers give to isolated pages alone.
ort.env.wasm.numThreads = self.crossOriginIsolated
  ? Math.min(MOST_THREADS, navigator.hardwareConcurrency)
  : 1;

const ready = start();
let canvas;

async function start() {
  const settings = await (await fetch("/settings.json")).json();
  const [detector, classifier] = await Promise.all(
    [settings.detector, settings.classifier].map(({ files }) =>
      ort.InferenceSession.create(files[0], {
        executionProviders: ["wasm"],
        externalData: files.slice(1).map((url) => ({ path: url.split("/").pop(), data: url })),
      }),
    ),
  );
  return { settings, detector, classifier, threads: ort.env.wasm.numThreads };
}

/** Run the face network on one picture; return its maps. */
async function runDetector({ detector }, input, dims) {
  const maps = await detector.run({
    [detector.inputNames[0]]: new ort.Tensor("float32", input, dims),
  });
  return detector.outputNames.map((name) => maps[name]);
}

/** Run the classifier on a batch; return one row of numbers for each face. */
async function runClassifier({ classifier, settings }, batch, count) {
  const { spec, reading, fixed_batch: fixed, type } = settings.classifier;
  const one = batch.length / count;
  const [height, width] = spec.input_size;
  const shape = spec.layout === "nhwc" ? [height, width, -1] : [-1, height, width];
  const sides = shape.map((side) => (side < 0 ? one / height / width : side));
  const step = fixed ?? count;
  const rows = [];
  for (let start = 0; start < count; start += step) {
    const part = new Float32Array(step * one);
    part.set(batch.subarray(start * one, (start + step) * one));
    const levels = type === "uint8" ? Uint8ClampedArray.from(part) : part;
    const data = type === "uint8" ? new Uint8Array(levels.buffer) : levels;
    const answers = await classifier.run({
      [classifier.inputNames[0]]: new ort.Tensor(
        type === "uint8" ? "uint8" : "float32",
        data,
        [step, ...sides],
      ),
    });
    for (let face = 0; face < Math.min(step, count - start); face += 1) {
      rows.push(
        reading.flatMap(([name, columns]) => {
          const { data: numbers } = answers[name];
          if (numbers.length !== step * columns) {
            throw new Error(`Expected ${step * columns} numbers of ${name}, received ${numbers.length}`);
          }
          return Array.from(numbers.subarray(face * columns, (face + 1) * columns));
        }),
      );
    }
  }
  return rows;
}

/** Return a bitmap's pixels; what is transparent becomes white. */
function pixels(bitmap) {
  const { width, height } = bitmap;
  if (canvas?.width !== width || canvas?.height !== height) {
    canvas = new OffscreenCanvas(width, height);
  }
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  return fromRgba(context.getImageData(0, 0, width, height));
}

async function open(picture, most) {
  if (picture instanceof ImageBitmap) return picture;
  const bitmap = await createImageBitmap(picture, AS_STORED).catch(() => {
    throw new Error(
      "Expected a picture that this browser reads, received another file or a damaged one; " +
        "fer-edge classify reads more kinds",
    );
  });
  if (bitmap.width * bitmap.height > most) {
    throw new Error(
      `Expected at most ${most} pixels, received ${bitmap.width} x ${bitmap.height}; make it smaller`,
    );
  }
  return bitmap;
}

/** Find and classify the faces of a picture; what fails stands in its record. */
async function classify({ name, picture, mirror, live }) {
  const models = await ready;
  const { settings } = models;
  const { classifier } = settings;
  const record = {
    image: name,
    width: null,
    height: null,
    status: "ok",
    error: null,
    faces: [],
    model: classifier.name,
    mirror,
    prior: classifier.prior,
  };
  let bitmap;
  try {
    bitmap = await open(picture, settings.max_pixels);
    const frame = pixels(bitmap);
    const found = await detect(
      (input, dims) => runDetector(models, input, dims),
      frame,
      settings.detector,
      live,
    );
    const batch = prepare(frame, found, classifier.spec, classifier.least_tilt);
    const rows = await predict(
      (part, count) => runClassifier(models, part, count),
      batch,
      found.length,
      classifier,
      mirror,
    );
    record.width = frame.width;
    record.height = frame.height;
    record.faces = found.map((face, index) => result(face, rows[index], classifier));
    record.status = found.length ? "ok" : "no_face";
  } catch (error) {
    record.status = "error";
    record.error = error.message;
  }
  return { record, bitmap };
}

self.onmessage = async ({ data: { id, ...asked } }) => {
  const { record, bitmap } = await classify(asked);
  self.postMessage({ id, record, bitmap }, bitmap ? [bitmap] : []);
};

ready.then(
  ({ settings, threads }) => self.postMessage({ settings, threads }),
  (error) => self.postMessage({ failure: error.message }),
);
