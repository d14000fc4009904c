// The model, beside the page: pictures in, P(class) and the outlier score out, as predict/runtime.py has them.

import * as ort from "./ort.js";
import { BadPicture, pixelsOf, readFile } from "./picture.js";
import { mirrored, toSquare } from "./resize.js";

const TINY = 2 ** -126; // stands for a probability of 0

ort.env.wasm.numThreads = 1; // more need headers that a plain web server does not send
ort.env.wasm.wasmPaths = { wasm: new URL("ort.wasm", import.meta.url).href };

let facts, session;

try {
  facts = await (await fetch("model.json")).json();
  session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
  if (isFalsified()) throw new Error("this browser changes pictures before a page can read them (a privacy setting)");
  postMessage({ facts });
} catch (error) {
  postMessage({ failed: String(error.message ?? error) });
}

onmessage = async ({ data: { number, file, frame } }) => {
  try {
    const square = toSquare(file ? await readFile(file, facts.size) : pixelsOf(frame), facts.size, facts.interpolation);
    postMessage({ number, ...(await predict(square)) });
  } catch (error) {
    const words = error instanceof BadPicture ? error.message : `The model failed: ${error.message ?? error}`;
    postMessage({ number, error: words });
  } finally {
    frame?.close();
  }
};

// With flip test-time augmentation; the outlier score is that of the picture as it is.
async function predict(square) {
  const { probabilities, outlierScore } = await run(square);
  if (Math.max(...probabilities) >= facts.flip_tta_below) return { probabilities, outlierScore };
  const other = (await run(mirrored(square))).probabilities;
  const both = probabilities.map((p, k) => Math.sqrt(Math.max(p, TINY) * Math.max(other[k], TINY)));
  const total = both.reduce((sum, p) => sum + p, 0);
  return { probabilities: both.map((p) => p / total), outlierScore };
}

async function run({ width, height, data }) {
  const images = new ort.Tensor("uint8", new Uint8Array(data.buffer), [1, height, width, 3]);
  const found = await session.run({ images });
  return { probabilities: [...found.probabilities.data], outlierScore: found.outlier_score?.data[0] };
}

// Some browsers add noise to what a page reads from a canvas: no answer would be right.
function isFalsified() {
  const canvas = new OffscreenCanvas(16, 16);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const drawn = new ImageData(16, 16);
  drawn.data.forEach((_, i) => (drawn.data[i] = i % 4 === 3 ? 255 : (i * 7) % 256));
  context.putImageData(drawn, 0, 0);
  return context.getImageData(0, 0, 16, 16).data.some((value, i) => value !== drawn.data[i]);
}
