// Pixels: cut, greyed, resized and turned as OpenCV does it, so that a model sees what it sees in
// Python. A frame is {width, height, channels, data}: uint8 levels, BGR or grey, row by row.

/** Round as Python and OpenCV do: halves to the even neighbour. */
export function round(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest === 0.5) return floor % 2 === 0 ? floor : floor + 1;
  return rest < 0.5 ? floor : floor + 1;
}

const clip = (value, low, high) => Math.min(Math.max(value, low), high);

/** Return a BGR frame of a canvas' RGBA levels, which are opaque. */
export function fromRgba({ width, height, data: rgba }) {
  const data = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < data.length; from += 4, to += 3) {
    data[to] = rgba[from + 2];
    data[to + 1] = rgba[from + 1];
    data[to + 2] = rgba[from];
  }
  return { width, height, channels: 3, data };
}

/** Turn BGR into grey by ITU-R BT.601, in OpenCV's fixed point; grey frames pass through. */
export function toGray(frame) {
  if (frame.channels === 1) return frame;
  const { width, height, data } = frame;
  const gray = new Uint8Array(width * height);
  for (let from = 0, to = 0; to < gray.length; from += 3, to += 1) {
    gray[to] = (3735 * data[from] + 19235 * data[from + 1] + 9798 * data[from + 2] + 16384) >> 15;
  }
  return { width, height, channels: 1, data: gray };
}

/** Cut a rectangle; parts outside the frame repeat its edge pixels. */
export function cut(frame, left, top, width, height) {
  const { channels, data: from } = frame;
  const data = new Uint8Array(width * height * channels);
  for (let y = 0, to = 0; y < height; y += 1) {
    const row = clip(top + y, 0, frame.height - 1) * frame.width;
    for (let x = 0; x < width; x += 1) {
      const pixel = (row + clip(left + x, 0, frame.width - 1)) * channels;
      for (let channel = 0; channel < channels; channel += 1, to += 1) {
        data[to] = from[pixel + channel];
      }
    }
  }
  return { width, height, channels, data };
}

/** Resize: by pixel area where it shrinks, bilinearly where it grows. */
export function resize(frame, width, height) {
  if (frame.width === width && frame.height === height) return frame;
  const scaleX = 1 / (width / frame.width);
  const scaleY = 1 / (height / frame.height);
  const shrinks = frame.width > width || frame.height > height;
  if (!(shrinks && scaleX >= 1 && scaleY >= 1)) {
    return resizeLinear(frame, width, height, scaleX, scaleY, shrinks);
  }
  const stepX = Math.round(scaleX);
  const stepY = Math.round(scaleY);
  const whole = (scale, step) => Math.abs(scale - step) < Number.EPSILON;
  if (whole(scaleX, stepX) && whole(scaleY, stepY)) {
    return resizeBlocks(frame, width, height, stepX, stepY);
  }
  return resizeArea(frame, width, height, scaleX, scaleY);
}

/** Shrink by whole numbers: each pixel is the mean of a block. */
function resizeBlocks(frame, width, height, stepX, stepY) {
  const { channels, data: from } = frame;
  const data = new Uint8Array(width * height * channels);
  const share = Math.fround(1 / (stepX * stepY));
  const quarter = stepX === 2 && stepY === 2;
  for (let y = 0, to = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      for (let channel = 0; channel < channels; channel += 1, to += 1) {
        let sum = 0;
        for (let row = 0; row < stepY; row += 1) {
          let pixel = ((y * stepY + row) * frame.width + x * stepX) * channels + channel;
          for (let column = 0; column < stepX; column += 1, pixel += channels) sum += from[pixel];
        }
        data[to] = quarter ? (sum + 2) >> 2 : round(Math.fround(sum * share));
      }
    }
  }
  return { width, height, channels, data };
}

/** Shrink by any numbers: each pixel is the mean of the area that it covers. */
function resizeArea(frame, width, height, scaleX, scaleY) {
  const { channels, data: from } = frame;
  const data = new Uint8Array(width * height * channels);
  const columns = areaShares(frame.width, width, scaleX);
  const rows = areaShares(frame.height, height, scaleY);
  const line = new Float32Array(width * channels);
  const sums = new Float32Array(width * channels);
  let target = 0;
  const finish = () => {
    for (let index = 0, to = target * sums.length; index < sums.length; index += 1, to += 1) {
      data[to] = clip(round(sums[index]), 0, 255);
    }
    sums.fill(0);
  };
  for (const row of rows) {
    if (row.to !== target) {
      finish();
      target = row.to;
    }
    line.fill(0);
    const start = row.from * frame.width * channels;
    for (const column of columns) {
      const source = start + column.from * channels;
      const place = column.to * channels;
      for (let channel = 0; channel < channels; channel += 1) {
        line[place + channel] += from[source + channel] * column.share;
      }
    }
    for (let index = 0; index < line.length; index += 1) sums[index] += line[index] * row.share;
  }
  finish();
  return { width, height, channels, data };
}

/** Return which pixels, and how much of each, every pixel of a shorter line is made of. */
function areaShares(length, target, scale) {
  const shares = [];
  for (let to = 0; to < target; to += 1) {
    const begin = to * scale;
    const end = begin + scale;
    const cell = Math.min(scale, length - begin);
    const last = Math.min(Math.floor(end), length - 1);
    const first = Math.min(Math.ceil(begin), last);
    if (first - begin > 1e-3) {
      shares.push({ to, from: first - 1, share: Math.fround((first - begin) / cell) });
    }
    for (let from = first; from < last; from += 1) {
      shares.push({ to, from, share: Math.fround(1 / cell) });
    }
    if (end - last > 1e-3) {
      const share = Math.min(end - last, 1, cell) / cell;
      shares.push({ to, from: last, share: Math.fround(share) });
    }
  }
  return shares;
}

const LINEAR_BITS = 11;

/** Resize bilinearly in OpenCV's fixed point; `area` where one axis grows and the other shrinks. */
function resizeLinear(frame, width, height, scaleX, scaleY, area) {
  const { channels, data: from } = frame;
  const data = new Uint8Array(width * height * channels);
  const columns = linearShares(frame.width, width, scaleX, area);
  const rows = linearShares(frame.height, height, scaleY, area);
  const stride = frame.width * channels;
  for (let y = 0, to = 0; y < height; y += 1) {
    const upper = rows[y].from * stride;
    const lower = rows[y].next * stride;
    for (let x = 0; x < width; x += 1) {
      const { from: left, next: right, shares } = columns[x];
      for (let channel = 0; channel < channels; channel += 1, to += 1) {
        const a = left * channels + channel;
        const b = right * channels + channel;
        const above = from[upper + a] * shares[0] + from[upper + b] * shares[1];
        const below = from[lower + a] * shares[0] + from[lower + b] * shares[1];
        const sum =
          ((rows[y].shares[0] * (above >> 4)) >> 16) + ((rows[y].shares[1] * (below >> 4)) >> 16);
        data[to] = clip((sum + 2) >> 2, 0, 255);
      }
    }
  }
  return { width, height, channels, data };
}

/** Return the two pixels that each pixel of a line lies between, and their shares. */
function linearShares(length, target, scale, area) {
  return Array.from({ length: target }, (_, to) => {
    let from;
    let rest;
    if (area) {
      from = Math.floor(to * scale);
      rest = Math.fround(to + 1 - (from + 1) / scale);
      rest = rest <= 0 ? 0 : rest - Math.floor(rest);
    } else {
      const place = Math.fround((to + 0.5) * scale - 0.5);
      from = Math.floor(place);
      rest = Math.fround(place - from);
    }
    const shares = [round((1 - rest) * 2 ** LINEAR_BITS), round(rest * 2 ** LINEAR_BITS)];
    return { from: clip(from, 0, length - 1), next: clip(from + 1, 0, length - 1), shares };
  });
}

/**
 * Cut a square that is turned about a point.
 *
 * @param {object} frame
 * @param {number[]} middle x and y of the point, which stays where it is.
 * @param {number} degrees By how much what is seen is turned counter-clockwise.
 * @param {number} left Of the square.
 * @param {number} top Of the square.
 * @param {number} side Of the square.
 */
export function cutTurned(frame, [middleX, middleY], degrees, left, top, side) {
  const { width, height, channels, data: from } = frame;
  const data = new Uint8Array(side * side * channels);
  const cos = Math.cos((degrees * Math.PI) / 180);
  const sin = Math.sin((degrees * Math.PI) / 180);
  for (let y = 0, to = 0; y < side; y += 1) {
    for (let x = 0; x < side; x += 1) {
      const acrossX = left + x - middleX;
      const acrossY = top + y - middleY;
      const sourceX = cos * acrossX - sin * acrossY + middleX;
      const sourceY = sin * acrossX + cos * acrossY + middleY;
      const floorX = Math.floor(sourceX);
      const floorY = Math.floor(sourceY);
      const restX = sourceX - floorX;
      const restY = sourceY - floorY;
      const x0 = clip(floorX, 0, width - 1) * channels;
      const x1 = clip(floorX + 1, 0, width - 1) * channels;
      const y0 = clip(floorY, 0, height - 1) * width * channels;
      const y1 = clip(floorY + 1, 0, height - 1) * width * channels;
      for (let channel = 0; channel < channels; channel += 1, to += 1) {
        const above = from[y0 + x0 + channel] * (1 - restX) + from[y0 + x1 + channel] * restX;
        const below = from[y1 + x0 + channel] * (1 - restX) + from[y1 + x1 + channel] * restX;
        data[to] = round(above * (1 - restY) + below * restY);
      }
    }
  }
  return { width: side, height: side, channels, data };
}
