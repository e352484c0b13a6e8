// The page: camera, video and pictures go to the worker, what it finds is shown.

import { drawPicture, drawTimeline, percent } from "./draw.js";

const SPAN_S = 60; // What the timeline shows.
const MOST_FACES = 6; // That get bars.
const PAINT_MS = 250; // Bars and timeline are painted no more often: a screen reader follows, too.
const SAY_MS = 3000; // Changes are told no more often.

const at = (id) => document.getElementById(id);
const view = at("view");
const video = at("video");
const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
const records = [];
let settings;
let watching = null; // The camera or video that is watched: a token.
let asked = 0;

/** Return an element with a text, or with others in it. */
function element(tag, content = "", attributes = {}) {
  const made = document.createElement(tag);
  made.append(...[content].flat());
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const colorOf = (label) => settings.colors[label] ?? "#ffffff";

function tell(text) {
  if (at("status").textContent !== text) at("status").textContent = text;
}

function complain(text) {
  at("problem").textContent = text;
  at("problem").hidden = !text;
}

worker.onmessage = ({ data }) => {
  if (data.failure) return fail(data.failure);
  if (data.settings) return begin(data);
  const { id, ...answer } = data;
  waiting.get(id)(answer);
  return waiting.delete(id);
};
worker.onerror = (event) => fail(event.message || "this browser is too old");

function fail(reason) {
  tell("");
  complain(`The models cannot be run here: ${reason}`);
}

function begin({ settings: given, threads }) {
  settings = given;
  const { classifier, detector } = settings;
  const used = threads > 1 ? `${threads} threads` : "one thread";
  at("about").textContent =
    `Model ${classifier.name}, faces by ${detector.name}, WebAssembly on ${used}; ` +
    `fer-edge ${settings.version}.`;
  at("legend").replaceChildren(
    ...classifier.spec.labels.map((label) => {
      const patch = element("span");
      patch.style.background = colorOf(label);
      return element("li", [patch, label]);
    }),
  );
  at("files").disabled = false;
  at("camera").disabled = !navigator.mediaDevices;
  tell(navigator.mediaDevices ? "Ready." : "Ready. Browsers give cameras to https and localhost alone.");
}

/** Let the worker classify a picture or a frame; return its record and bitmap. */
function classify(picture, name, { mirror = false, live = false }) {
  asked += 1;
  const id = asked;
  return new Promise((resolve) => {
    waiting.set(id, resolve);
    worker.postMessage(
      { id, name, picture, mirror, live },
      picture instanceof ImageBitmap ? [picture] : [],
    );
  });
}

const best = (face) => `${face.emotion} ${percent(face.confidence)}`;

function summary({ status, error, faces }) {
  if (status === "error") return error;
  return faces.length ? faces.map(best).join(", ") : "no face found";
}

function show(bitmap, record, selfie) {
  at("hint").hidden = true;
  drawPicture(view, bitmap, record.faces, colorOf, selfie);
  view.setAttribute("aria-label", `${record.image}: ${summary(record)}`);
}

function showFaces(faces) {
  const shown = faces.slice(0, MOST_FACES).map((face, index) => {
    const rows = Object.entries(face.probabilities).map(([label, share]) => {
      const fill = element("div");
      fill.style.width = `${100 * share}%`;
      fill.style.background = colorOf(label);
      const bar = element("div", fill, { class: "bar", "aria-hidden": "true" });
      return element("tr", [
        element("th", label, { scope: "row" }),
        element("td", bar),
        element("td", percent(share)),
      ]);
    });
    const numbers = Object.entries(face.affect ?? {}).map(([name, value]) =>
      element("tr", [
        element("th", name, { scope: "row" }),
        element("td"),
        element("td", value.toFixed(2)),
      ]),
    );
    return element(
      "div",
      [
        element("h3", `${faces.length > 1 ? `${index + 1}: ` : ""}${best(face)}`),
        element("table", element("tbody", [...rows, ...numbers])),
      ],
      { class: "face" },
    );
  });
  if (faces.length > MOST_FACES) {
    shown.push(element("p", `and ${faces.length - MOST_FACES} more`, { class: "quiet" }));
  }
  at("faces").replaceChildren(
    ...(shown.length ? shown : [element("p", "No face found.", { class: "quiet" })]),
  );
}

// Pictures

async function openFiles(files) {
  const [first] = files;
  if (!settings || !first) return;
  stop();
  complain("");
  if (first.type.startsWith("video/")) {
    await watchFile(first);
    return;
  }
  at("past").hidden = true;
  at("results").hidden = false;
  for (const [index, file] of [...files].entries()) {
    if (files.length > 1) tell(`Picture ${index + 1} of ${files.length} …`);
    const { record, bitmap } = await classify(file, file.name, settings);
    records.push(record);
    addRow(file, record);
    if (!watching) showPicture(record, bitmap);
  }
  tell(files.length > 1 ? `${files.length} pictures done.` : `${first.name}: ${summary(records.at(-1))}`);
}

function showPicture(record, bitmap) {
  if (record.status === "error") complain(`${record.image}: ${record.error}`);
  if (!bitmap) return;
  show(bitmap, record, false);
  bitmap.close();
  showFaces(record.faces);
}

function addRow(file, record) {
  const again = element("button", record.image, { type: "button" });
  again.onclick = async () => {
    stop();
    complain("");
    const { bitmap } = await classify(file, record.image, record);
    showPicture(record, bitmap);
    tell(`${record.image}: ${summary(record)}`);
  };
  at("rows").append(
    element("tr", [
      element("td", again),
      element("td", record.status === "error" ? "–" : `${record.faces.length}`),
      element("td", summary(record)),
    ]),
  );
}

function save() {
  const lines = records.map((record) => `${JSON.stringify(record)}\n`);
  const url = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
  element("a", "", { href: url, download: "faces.jsonl" }).click();
  URL.revokeObjectURL(url);
}

function clear() {
  records.length = 0;
  at("rows").replaceChildren();
  at("results").hidden = true;
  tell("Ready.");
}

// Camera and video

async function watchCamera() {
  stop();
  complain("");
  tell("Waiting for the camera …");
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
    video.srcObject = stream;
    await watch("camera", true);
  } catch (error) {
    tell("");
    complain(
      `The camera cannot be used: ${error.message}; plug it in, allow it for this page, and close ` +
        "other programs that use it",
    );
  }
}

async function watchFile(file) {
  video.src = URL.createObjectURL(file);
  try {
    await watch(file.name, false);
  } catch {
    tell("");
    complain(
      `Expected a video that this browser plays, received ${file.name}; fer-edge video reads ` +
        "more kinds",
    );
  }
}

/** Resolve when the video shows another frame, at the latest after a moment. */
function nextFrame() {
  return new Promise((resolve) => {
    setTimeout(resolve, 500);
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(resolve);
    else requestAnimationFrame(resolve);
  });
}

async function watch(name, selfie) {
  const token = {};
  watching = token;
  const moments = [];
  const done = [];
  let painted = 0;
  let told = { at: 0, emotion: null };
  at("stop").hidden = false;
  at("past").hidden = false;
  try {
    await video.play();
  } catch (error) {
    if (watching !== token) return; // Stopped before it began.
    stop();
    throw error;
  }
  tell(`Watching ${name}.`);
  while (watching === token && !video.ended) {
    await nextFrame();
    if (watching !== token || !video.videoWidth) continue;
    const now = performance.now();
    const frame = await createImageBitmap(video);
    const { record, bitmap } = await classify(frame, name, { live: true });
    if (watching !== token) {
      bitmap?.close();
      break;
    }
    if (record.status === "error") {
      complain(record.error);
      break;
    }
    show(bitmap, record, selfie);
    bitmap.close();
    const [face] = record.faces;
    moments.push({ time_s: now / 1000, probabilities: face?.probabilities ?? null });
    while (moments[0].time_s < now / 1000 - SPAN_S) moments.shift();
    done.push(performance.now());
    if (done.length > 30) done.shift();
    if (now - painted > PAINT_MS) {
      painted = now;
      showFaces(record.faces);
      paintTimeline(moments, done);
    }
    if (now - told.at > SAY_MS && face?.emotion !== told.emotion) {
      told = { at: now, emotion: face?.emotion };
      tell(face ? `Watching ${name}: ${face.emotion}` : `Watching ${name}: no face`);
    }
  }
  if (watching === token) stop();
}

function paintTimeline(moments, done) {
  const { labels } = settings.classifier.spec;
  drawTimeline(at("timeline"), moments, labels, colorOf, SPAN_S);
  const seen = moments.filter((moment) => moment.probabilities);
  const means = labels
    .map((label) => [
      label,
      seen.reduce((sum, { probabilities }) => sum + probabilities[label], 0) / (seen.length || 1),
    ])
    .sort(([, one], [, other]) => other - one)
    .slice(0, 3);
  at("timeline").setAttribute(
    "aria-label",
    seen.length
      ? `On average ${means.map(([label, share]) => `${label} ${percent(share)}`).join(", ")}`
      : "No face was seen",
  );
  const span_s = (done.at(-1) - done[0]) / 1000;
  const rate = span_s > 0 ? (done.length - 1) / span_s : 0;
  at("past-title").textContent =
    `The last minute of the largest face (${rate.toFixed(1)} frames/s)`;
}

function stop() {
  if (!watching) return;
  watching = null;
  video.pause();
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  if (video.src) URL.revokeObjectURL(video.src);
  video.srcObject = null;
  video.removeAttribute("src");
  at("stop").hidden = true;
  tell("Stopped.");
}

at("camera").onclick = watchCamera;
at("stop").onclick = () => {
  stop();
  at("camera").focus();
};
at("save").onclick = save;
at("clear").onclick = clear;
at("files").onchange = ({ target }) => {
  const files = [...target.files];
  target.value = ""; // So that the same ones can be chosen again.
  openFiles(files);
};
document.addEventListener("paste", (event) => openFiles(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.querySelector(".view").classList.add("over");
});
document.addEventListener("dragleave", () => document.querySelector(".view").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.querySelector(".view").classList.remove("over");
  openFiles(event.dataTransfer.files);
});
