// From a frame and its faces to a classifier's input: fer_edge/inference/preprocess.py in JavaScript.

import { cut, cutTurned, resize, round, toGray } from "./image.js";

/** Return left, top and side of the square around a face. */
function square([left, top, width, height], margin) {
  const side = Math.max(1, round(Math.max(width, height) * (1 + 2 * margin)));
  const middle = (start, length) => Math.floor(start + (length - side) / 2 + 0.5);
  return [middle(left, width), middle(top, height), side];
}

/** Return by how many degrees a face is turned clockwise in the picture, by its eyes. */
function tilt([[leftX, leftY], [rightX, rightY]]) {
  return (Math.atan2(rightY - leftY, rightX - leftX) * 180) / Math.PI;
}

function cutFace(frame, face, margin, leastTilt) {
  const [left, top, width, height] = face.box;
  if (!left && !top && width === frame.width && height === frame.height) return frame;
  const [x, y, side] = square(face.box, margin);
  const turned = leastTilt === null ? 0 : tilt(face.points);
  if (Math.abs(turned) < leastTilt || leastTilt === null) return cut(frame, x, y, side, side);
  return cutTurned(frame, [left + (width - 1) / 2, top + (height - 1) / 2], turned, x, y, side);
}

/**
 * Turn the faces of a frame into a classifier's input.
 *
 * @param {object} frame BGR.
 * @param {object[]} faces With `box` and `points`.
 * @param {object} spec The classifier's `ModelSpec`.
 * @param {number|null} leastTilt Degrees from which faces are turned upright; null leaves all.
 * @returns {Float32Array} (N, height, width, channels), or (N, channels, height, width).
 */
export function prepare(frame, faces, spec, leastTilt) {
  const [height, width] = spec.input_size;
  const channels = spec.color === "gray" ? 1 : 3;
  const [low, high] = spec.range;
  const of = (values, channel) => values[values.length === 1 ? 0 : channel];
  const batch = new Float32Array(faces.length * height * width * channels);
  const pixels = height * width;
  faces.forEach((face, number) => {
    const whole = cutFace(frame, face, spec.margin, leastTilt);
    const { data } = resize(channels === 1 ? toGray(whole) : whole, width, height);
    for (let channel = 0; channel < channels; channel += 1) {
      const source = spec.color === "rgb" ? 2 - channel : channel;
      for (let pixel = 0; pixel < pixels; pixel += 1) {
        const level = (data[pixel * channels + source] * (high - low)) / 255 + low;
        const place = spec.layout === "nhwc" ? pixel * channels + channel : channel * pixels + pixel;
        batch[number * pixels * channels + place] =
          (level - of(spec.mean, channel)) / of(spec.std, channel);
      }
    }
  });
  return batch;
}

/** Return a batch of faces as their mirror images. */
export function flip(batch, spec) {
  const [height, width] = spec.input_size;
  const channels = spec.color === "gray" ? 1 : 3;
  // Rows of pixels with their channels, or rows of one channel.
  const step = spec.layout === "nhwc" ? channels : 1;
  const line = width * step;
  const flipped = new Float32Array(batch.length);
  for (let start = 0; start < batch.length; start += line) {
    for (let column = 0; column < width; column += 1) {
      for (let channel = 0; channel < step; channel += 1) {
        flipped[start + column * step + channel] =
          batch[start + (width - 1 - column) * step + channel];
      }
    }
  }
  return flipped;
}
