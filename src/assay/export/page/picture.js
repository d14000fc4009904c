// A picture file or a camera's frame -> upright RGB pixels, by the rules of data/decode.py.
//
// The browser decodes. It must not turn the picture by its EXIF block, of which it may think otherwise when the
// block is damaged, nor convert colours but by an ICC profile: Python does the first itself, the second never.

import { mirrored, transposed } from "./resize.js";

const MOST_BYTES = 64 * 2 ** 20;
const MOST_PIXELS = 50e6;
const MOST_ASPECT = 100;
const STRIP = 256; // rows that are read at a time; a multiple of 8. Phones have no canvas of 50 megapixels

// A file that gives no pixels; its message is for the user.
export class BadPicture extends Error {}

// The pixels of a file, upright. A JPEG is reduced like Pillow's draft, while its shorter side keeps `size`.
export async function readFile(file, size) {
  const fault = (words) => new BadPicture(`${file.name || "The file"} ${words}`);
  if (file.size > MOST_BYTES) throw fault(`has ${(file.size / 2 ** 20).toFixed(0)} MiB; the most is 64.`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (!bytes.length) throw fault("is empty.");
  const kind = kindOf(bytes);
  if (!kind) throw fault("is not a JPEG, PNG, WebP, GIF or BMP picture. Save it as one of these, then try again.");
  const found = { whole: true, hasProfile: false, turn: 1 };
  if (kind === "jpeg") readJpeg(bytes, found);
  if (kind === "png") readPng(bytes, found);
  if (kind === "webp") readWebp(bytes, found);
  if (!found.whole) throw fault("ends too early: it was cut, or not copied whole.");
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes], { type: `image/${kind}` }), {
      colorSpaceConversion: found.hasProfile ? "default" : "none",
      premultiplyAlpha: "none",
    });
  } catch {
    throw fault("is damaged: its picture cannot be decoded.");
  }
  try {
    const [shorter, longer] = [bitmap.width, bitmap.height].sort((a, b) => a - b);
    if (shorter * longer > MOST_PIXELS) throw fault(`has ${shorter * longer} pixels; the most is 50 million.`);
    if (longer > MOST_ASPECT * shorter) throw fault(`is longer than ${MOST_ASPECT}:1.`);
    const reduction = kind === "jpeg" ? [8, 4, 2, 1].find((step) => step === 1 || shorter >= step * size) : 1;
    return upright(pixelsOf(bitmap, reduction), found.turn);
  } finally {
    bitmap.close();
  }
}

// The pixels of an ImageBitmap, each the mean of step x step of its own; transparent ones over white.
export function pixelsOf(bitmap, step = 1) {
  const [width, height] = [Math.ceil(bitmap.width / step), Math.ceil(bitmap.height / step)];
  const data = new Uint8ClampedArray(width * height * 3);
  const canvas = new OffscreenCanvas(bitmap.width, Math.min(STRIP, bitmap.height));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new BadPicture("This picture is too large for this browser.");
  context.fillStyle = "#fff";
  for (let top = 0, to = 0; top < bitmap.height; top += STRIP) {
    const rows = Math.min(STRIP, bitmap.height - top);
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, -top);
    const rgba = context.getImageData(0, 0, canvas.width, rows).data;
    for (let y = 0; y < rows; y += step) {
      for (let x = 0; x < bitmap.width; x += step, to += 3) {
        const [down, across] = [Math.min(step, rows - y), Math.min(step, bitmap.width - x)];
        let [red, green, blue] = [0, 0, 0];
        for (let j = 0; j < down; j++) {
          for (let i = 0, at = ((y + j) * bitmap.width + x) * 4; i < across; i++, at += 4) {
            red += rgba[at];
            green += rgba[at + 1];
            blue += rgba[at + 2];
          }
        }
        const n = down * across;
        data[to] = red / n; // the array rounds
        data[to + 1] = green / n;
        data[to + 2] = blue / n;
      }
    }
  }
  return { width, height, data };
}

function upright(picture, turn) {
  if (turn > 4) picture = transposed(picture);
  if ([2, 3, 6, 7].includes(turn)) picture = mirrored(picture);
  // Upside down is left to right of the transposed one.
  if ([3, 4, 7, 8].includes(turn)) picture = transposed(mirrored(transposed(picture)));
  return picture;
}

// ---- headers ----

function kindOf(bytes) {
  const head = text(bytes, 0, 16);
  if (head.startsWith("\x89PNG\r\n\x1a\n")) return "png";
  if (head.startsWith("\xff\xd8\xff")) return "jpeg";
  if (head.startsWith("GIF87a") || head.startsWith("GIF89a")) return "gif";
  if (head.startsWith("RIFF") && head.slice(8, 15) === "WEBPVP8") return "webp";
  // Two letters are too few, "BMW" starts with them: the size of the second header decides.
  return head.startsWith("BM") && [12, 40, 52, 56, 64, 108, 124].includes(bytes[14]) ? "bmp" : null;
}

function text(bytes, start, end) {
  return String.fromCharCode(...bytes.subarray(start, end));
}

function readJpeg(bytes, found) {
  let place = 2;
  while (place + 4 <= bytes.length && bytes[place] === 0xff) {
    const marker = bytes[place + 1];
    if (marker === 0xff) {
      place += 1; // a fill byte
      continue;
    }
    const end = place + 2 + bytes[place + 2] * 256 + bytes[place + 3];
    if (marker === 0xda || marker === 0xd9 || end > bytes.length) break;
    if (marker === 0xe1 && text(bytes, place + 4, place + 10) === "Exif\0\0") takeExif(bytes, place + 10, end, found);
    if (marker === 0xe2 && text(bytes, place + 4, place + 16) === "ICC_PROFILE\0") found.hasProfile = true;
    place = end;
  }
  // Thumbnails, which have an end of their own, lie before the pixels. In the pixels FF D9 is nothing else.
  found.whole = false;
  for (let at = bytes.indexOf(0xff, place + 2); at >= 0 && !found.whole; at = bytes.indexOf(0xff, at + 1)) {
    found.whole = bytes[at + 1] === 0xd9;
  }
}

function readPng(bytes, found) {
  const view = new DataView(bytes.buffer);
  found.whole = false;
  for (let place = 8; place + 12 <= bytes.length && !found.whole; ) {
    const [kind, end] = [text(bytes, place + 4, place + 8), place + 8 + view.getUint32(place)];
    if (kind === "iCCP") found.hasProfile = true;
    if (kind === "eXIf" && end <= bytes.length) takeExif(bytes, place + 8, end, found);
    found.whole = kind === "IEND";
    place = end + 4;
  }
}

function readWebp(bytes, found) {
  const view = new DataView(bytes.buffer);
  found.whole = bytes.length >= 8 + view.getUint32(4, true);
  for (let place = 12; place + 8 <= bytes.length; ) {
    const [kind, length] = [text(bytes, place, place + 4), view.getUint32(place + 4, true)];
    if (kind === "ICCP") found.hasProfile = true;
    if (kind === "EXIF") takeExif(bytes, place + 8, Math.min(place + 8 + length, bytes.length), found);
    place += 8 + length + (length & 1);
  }
}

// Read the orientation, 1 to 8, of the first EXIF block; blank the block, so that the browser finds none.
function takeExif(bytes, start, end, found) {
  if (text(bytes, start, start + 6) === "Exif\0\0") start += 6;
  const block = new DataView(bytes.buffer, start, end - start);
  if (!found.hasExif) found.turn = orientation(block);
  found.hasExif = true;
  bytes.fill(0, start, end);
}

function orientation(block) {
  try {
    const order = block.getUint32(0);
    if (order !== 0x49492a00 && order !== 0x4d4d002a) return 1;
    const small = order === 0x49492a00; // the lower byte comes first
    const first = block.getUint32(4, small);
    for (let n = 0; n < block.getUint16(first, small); n++) {
      const place = first + 2 + 12 * n;
      if (block.getUint16(place, small) !== 0x0112) continue;
      const [kind, count] = [block.getUint16(place + 2, small), block.getUint32(place + 4, small)];
      const value = kind === 4 ? block.getUint32(place + 8, small) : block.getUint16(place + 8, small);
      return [3, 4].includes(kind) && count === 1 && value >= 1 && value <= 8 ? value : 1;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // the block is cut short
  }
  return 1;
}
