// What was found, drawn: boxes with labels on a picture, and emotions over time.

const APART = 3; // Pixels of the page around a label's text.

/** Return black or white, whichever is read better on a colour such as #d55e00. */
function inkOn(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const level = parseInt(color.slice(at, at + 2), 16) / 255;
    return level <= 0.04045 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#000" : "#fff";
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

/**
 * Draw a picture with a box and a label for each face.
 *
 * @param {HTMLCanvasElement} canvas Takes the picture's size.
 * @param {ImageBitmap} bitmap
 * @param {object[]} faces Of its record.
 * @param {Function} colorOf Gives a label's colour.
 * @param {boolean} selfie Whether it is shown as in a looking-glass; text is not.
 */
export function drawPicture(canvas, bitmap, faces, colorOf, selfie) {
  const { width, height } = bitmap;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.save();
  if (selfie) context.setTransform(-1, 0, 0, 1, width, 0);
  context.drawImage(bitmap, 0, 0);
  context.restore();
  // Lines and letters keep their size on the page, whatever the picture's.
  const scale = width / (canvas.clientWidth || width);
  const places = faces.map(({ box: [left, top, w, h] }) => ({
    left: selfie ? width - left - w : left,
    top,
    width: w,
    height: h,
  }));
  // The most important last, so that it lies on top.
  [...faces.keys()].reverse().forEach((index) => {
    const place = places[index];
    for (const [style, line] of [["#000", 5], [colorOf(faces[index].emotion), 3]]) {
      context.strokeStyle = style;
      context.lineWidth = line * scale;
      context.strokeRect(place.left, place.top, place.width, place.height);
    }
  });
  const taken = [];
  faces.forEach((face, index) => drawLabel(context, face, index, places, taken, scale, colorOf));
}

/** Write a face's label above or below it, where it hides no face and no other label. */
function drawLabel(context, face, index, places, taken, scale, colorOf) {
  const { width, height } = context.canvas;
  const letter = 14 * scale;
  const pad = APART * scale;
  context.font = `600 ${letter}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const color = colorOf(face.emotion);
  const number = places.length > 1 ? `${index + 1} ` : "";
  for (const text of [`${number}${face.emotion} ${Math.round(100 * face.confidence)} %`, number]) {
    const w = context.measureText(text).width + 2 * pad;
    const h = letter + 2 * pad;
    const place = places[index];
    const left = Math.min(Math.max(0, place.left), Math.max(0, width - w));
    for (const top of [place.top - h - pad, place.top + place.height + pad]) {
      const label = { left, top, width: w, height: h };
      const free = ![...places, ...taken].some((other) => overlap(label, other));
      if (!text || !free || top < 0 || top + h > height || w > width) continue;
      taken.push(label);
      context.fillStyle = color;
      context.fillRect(left, top, w, h);
      context.fillStyle = inkOn(color);
      context.fillText(text, left + pad, top + h / 2);
      return;
    }
  }
}

const overlap = (one, other) =>
  one.left < other.left + other.width &&
  other.left < one.left + one.width &&
  one.top < other.top + other.height &&
  other.top < one.top + one.height;

/**
 * Draw probabilities over time as stacked bands of colour.
 *
 * @param {HTMLCanvasElement} canvas Takes the size that the page gives it.
 * @param {object[]} moments Each {time_s, probabilities}, or null where there was no face.
 * @param {string[]} labels
 * @param {Function} colorOf Gives a label's colour.
 * @param {number} span_s Seconds from left to right; the last moment is on the right.
 */
export function drawTimeline(canvas, moments, labels, colorOf, span_s) {
  const density = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * density);
  const height = Math.round(canvas.clientHeight * density);
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const end_s = moments.at(-1)?.time_s ?? 0;
  const x = (time_s) => width * (1 - (end_s - time_s) / span_s);
  moments.forEach(({ time_s, probabilities }, index) => {
    const next = moments[index + 1];
    if (!probabilities || !next) return;
    const left = Math.floor(x(time_s));
    const step = Math.max(1, Math.floor(x(next.time_s)) - left);
    let floor = height;
    for (const label of labels) {
      const top = floor - probabilities[label] * height;
      context.fillStyle = colorOf(label);
      context.fillRect(left, top, step, floor - top);
      floor = top;
    }
  });
}
