// The resize of data/resize.py, in the arithmetic of Pillow to the last bit: its bicubic filter, its box blur
// and its blend. A picture is {width, height, data}: RGB bytes, three a pixel, row after row.

const BITS = 22; // of a weight, after the binary point
const HALF = 1 << (BITS - 1);

export function toSquare(picture, size, interpolation) {
  if (picture.width === size && picture.height === size) return picture;
  if (interpolation === "nearest") return nearest(picture, size);
  const { width, height } = picture;
  const across = (one) => (width === size ? one : bicubic(one, size));
  const down = (one) => (height === size ? one : transposed(bicubic(transposed(one), size)));
  // Each pass rounds to bytes, so their order counts: Pillow 13 takes a tall picture down first.
  const isTall = height > size && height - size > 2 * (width - size);
  const square = isTall ? across(down(picture)) : down(across(picture));
  const factor = size / Math.max(width, height);
  if (interpolation !== "sharp" || factor <= 1) return square;
  const blur = (one) => transposed(blurred(one, factor - 0.5));
  return blended(blur(blur(square)), square, 1 + Math.min(factor - 1, 1));
}

// The picture as in a mirror, left and right exchanged.
export function mirrored({ width, height, data }) {
  const turned = new Uint8ClampedArray(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0, from = y * width * 3, to = from + width * 3 - 3; x < width; x++, from += 3, to -= 3) {
      turned[to] = data[from];
      turned[to + 1] = data[from + 1];
      turned[to + 2] = data[from + 2];
    }
  }
  return { width, height, data: turned };
}

// Rows become columns.
export function transposed({ width, height, data }) {
  const turned = new Uint8ClampedArray(data.length);
  for (let y = 0, from = 0; y < height; y++) {
    for (let x = 0, to = y * 3; x < width; x++, from += 3, to += height * 3) {
      turned[to] = data[from];
      turned[to + 1] = data[from + 1];
      turned[to + 2] = data[from + 2];
    }
  }
  return { width: height, height: width, data: turned };
}

function cubic(x) {
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * -0.5;
  return 0;
}

// Each row resized to `size` pixels. The filter grows as the row shrinks, so nothing is left out.
function bicubic({ width, height, data }, size) {
  const scale = width / size;
  const stretch = Math.max(scale, 1);
  const reach = 2 * stretch;
  const most = Math.ceil(reach) * 2 + 1;
  const weights = new Int32Array(size * most);
  const firsts = new Int32Array(size);
  const counts = new Int32Array(size);
  for (let x = 0; x < size; x++) {
    const centre = (x + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const count = Math.min(Math.trunc(centre + reach + 0.5), width) - first;
    const found = Array.from({ length: count }, (_, k) => cubic((k + first - centre + 0.5) * (1 / stretch)));
    const total = found.reduce((sum, weight) => sum + weight, 0);
    found.forEach((weight, k) => {
      const whole = (weight / total) * 2 ** BITS;
      weights[x * most + k] = Math.trunc(whole < 0 ? whole - 0.5 : whole + 0.5);
    });
    [firsts[x], counts[x]] = [first, count];
  }
  const resized = new Uint8ClampedArray(size * height * 3);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < size; x++, to += 3) {
      let [red, green, blue] = [HALF, HALF, HALF];
      const start = x * most;
      for (let k = 0, at = (y * width + firsts[x]) * 3; k < counts[x]; k++, at += 3) {
        const weight = weights[start + k];
        red += data[at] * weight;
        green += data[at + 1] * weight;
        blue += data[at + 2] * weight;
      }
      resized[to] = red >> BITS; // the array clamps to 0..255
      resized[to + 1] = green >> BITS;
      resized[to + 2] = blue >> BITS;
    }
  }
  return { width: size, height, data: resized };
}

// Each pixel the mean of its row within `radius`; the pixels at both ends count by the radius's fraction.
function blurred({ width, height, data }, radius) {
  const single = Math.fround(radius); // Pillow's numbers have 32 bits here
  const whole = Math.trunc(single);
  const inner = Math.trunc(Math.fround(2 ** 24 / Math.fround(Math.fround(single * 2) + 1)));
  const outer = Math.trunc((2 ** 24 - (whole * 2 + 1) * inner) / 2);
  const blurry = new Uint8ClampedArray(data.length);
  for (let y = 0; y < height; y++) {
    for (let channel = 0; channel < 3; channel++) {
      const start = y * width * 3 + channel;
      const at = (x) => data[start + Math.min(Math.max(x, 0), width - 1) * 3];
      let sum = 0;
      for (let x = -whole; x <= whole; x++) sum += at(x);
      for (let x = 0; x < width; x++) {
        const ends = at(x - whole - 1) + at(x + whole + 1);
        blurry[start + x * 3] = Math.floor((sum * inner + ends * outer + 2 ** 23) / 2 ** 24);
        sum += at(x + whole + 1) - at(x - whole);
      }
    }
  }
  return { width, height, data: blurry };
}

// `from` and beyond `to`, where `share` is above 1.
function blended(from, to, share) {
  const single = Math.fround(share);
  const data = new Uint8ClampedArray(from.data.length);
  for (let i = 0; i < data.length; i++) {
    const moved = Math.fround(single * (to.data[i] - from.data[i]));
    data[i] = Math.trunc(Math.fround(from.data[i] + moved));
  }
  return { width: from.width, height: from.height, data };
}

function nearest({ width, height, data }, size) {
  const across = places(width, size);
  const down = places(height, size);
  const square = new Uint8ClampedArray(size * size * 3);
  for (let y = 0, to = 0; y < size; y++) {
    for (let x = 0; x < size; x++, to += 3) {
      const from = (down[y] * width + across[x]) * 3;
      square.set(data.subarray(from, from + 3), to);
    }
  }
  return { width: size, height: size, data: square };
}

// Which pixels Pillow takes: it adds up the steps, and so does this, for the same rounding.
function places(length, size) {
  const found = [];
  for (let i = 0, place = (length / size) * 0.5; i < size; i++, place += length / size) found.push(Math.trunc(place));
  return found;
}
