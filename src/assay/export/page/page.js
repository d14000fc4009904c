// What a person sees: a photo or the camera's picture, and what the model in worker.js says of it.

const one = (id) => document.getElementById(id);
const CAMERA_PAUSE_MS = 150; // between two pictures of the camera: a phone must not get hot
const SHOWN = 5; // classes, the most probable first

const waiting = new Map(); // number of a request -> what takes its answer
let facts;
let worker;
let latest = 0; // number of the last request: answers to earlier ones are not shown
let stream = null; // of the camera, while it is on

if (location.protocol === "file:") {
  fail("A browser runs no model from a file on disk. In the folder of this page, run python -m http.server, then open http://localhost:8000");
} else {
  worker = new Worker("worker.js", { type: "module" });
  worker.onerror = () => fail("This browser cannot run the model. Chrome, Edge, Firefox and Safari of 2023 or later can.");
  worker.onmessage = ({ data }) => {
    if (data.failed) fail(`The model could not be loaded: ${data.failed}`);
    else if (data.facts) begin(data.facts);
    else waiting.get(data.number)(data);
  };
}

function begin(found) {
  facts = found;
  one("known").textContent = `${facts.labels.length} classes: ${listed(facts.labels, 12)}`;
  one("accuracy").textContent = facts.accuracy;
  one("status").textContent = "";
  for (const id of ["file", "capture", "camera"]) one(id).disabled = false;
  document.body.dataset.ready = "";
  keepForOffline();
}

function fail(words) {
  one("status").textContent = "";
  one("alert").textContent = words;
}

// After the model is there, or both would be loaded at the same time.
async function keepForOffline() {
  if (!navigator.serviceWorker) return; // neither on https nor on localhost
  try {
    await navigator.serviceWorker.register("service-worker.js");
    await navigator.serviceWorker.ready;
    one("offline").textContent = "It works without a network from now on.";
  } catch {
    one("offline").textContent = "It needs the network each time: this browser keeps no pages.";
  }
}

// ---- photos ----

for (const id of ["file", "capture"]) {
  one(id).addEventListener("change", () => {
    const [file] = one(id).files;
    if (file) labelFile(file);
    one(id).value = ""; // the same file may be chosen again
  });
}

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
addEventListener("drop", (event) => {
  event.preventDefault(); // or the browser leaves the page to show the file
  document.body.classList.remove("dragging");
  const [file] = event.dataTransfer.files;
  if (file && facts) labelFile(file);
});

async function labelFile(file) {
  stopCamera();
  one("alert").textContent = "";
  one("status").textContent = "Looking at the photo…";
  const found = await ask({ file });
  if (found.number !== latest) return;
  show(found);
  if (found.error) return;
  showStill(file, file.name);
}

function showStill(blob, name) {
  const still = one("still");
  URL.revokeObjectURL(still.src);
  still.src = URL.createObjectURL(blob);
  still.alt = `The photo ${name}`;
  reveal("still");
}

function reveal(id) {
  for (const other of ["hint", "still", "live"]) one(other).hidden = other !== id;
}

// ---- the camera ----

one("camera").addEventListener("click", () => (stream ? keepPicture() : startCamera()));

async function startCamera() {
  one("alert").textContent = "";
  if (!navigator.mediaDevices) {
    fail("The browser gives the camera only to pages on https or on localhost.");
    return;
  }
  const live = one("live");
  one("camera").disabled = true; // until the person has answered whether the page may use it
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    live.srcObject = stream;
    await live.play();
  } catch (error) {
    stopCamera();
    fail(error.name === "NotAllowedError" ? "The camera was not allowed. Allow it for this page in the browser's settings." : "No camera was found.");
    return;
  } finally {
    one("camera").disabled = false;
  }
  const own = stream;
  reveal("live");
  one("camera").textContent = "Stop at this picture";
  one("answer").ariaLive = "off"; // a screen reader would read every picture
  while (stream === own) {
    const found = await ask({ frame: await createImageBitmap(live) });
    if (stream === own && found.number === latest) show(found);
    await new Promise((resolve) => setTimeout(resolve, CAMERA_PAUSE_MS));
  }
}

async function keepPicture() {
  const live = one("live");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [live.videoWidth, live.videoHeight];
  canvas.getContext("2d").drawImage(live, 0, 0);
  stopCamera();
  const found = await ask({ frame: await createImageBitmap(canvas) });
  canvas.toBlob((blob) => showStill(blob, "from the camera"));
  if (found.number === latest) show(found);
}

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  one("camera").textContent = "Live camera";
  one("answer").ariaLive = "polite";
}

// ---- answers ----

function ask(request) {
  const number = ++latest;
  return new Promise((resolve) => {
    waiting.set(number, (found) => {
      waiting.delete(number);
      resolve(found);
    });
    worker.postMessage({ number, ...request }, request.frame ? [request.frame] : []);
  });
}

function show({ probabilities, outlierScore, error }) {
  one("status").textContent = "";
  one("alert").textContent = error ?? "";
  one("answer").hidden = Boolean(error);
  if (error) {
    reveal("hint");
    return;
  }
  const order = probabilities.map((p, k) => [p, k]).sort(([a], [b]) => b - a);
  const [top, likeliest] = order[0];
  const label = facts.labels[likeliest];
  // NaN, of a model without this score, is no outlier.
  const [kind, verdict, reason] =
    outlierScore > 1
      ? ["outlier", "Belongs to no class", `It looks unlike all ${facts.labels.length} classes. The nearest: ${label}, ${percent(top)}.`]
      : top < facts.threshold
        ? ["unsure", "Not sure", `Perhaps ${label}, ${percent(top)}. It takes ${percent(facts.threshold)} to be sure.`]
        : ["sure", label, `${percent(top)} confident`];
  one("answer").dataset.kind = kind;
  one("verdict").textContent = verdict;
  one("reason").textContent = reason;
  one("classes").replaceChildren(...order.slice(0, SHOWN).map(([p, k]) => row(facts.labels[k], p)));
}

function row(label, p) {
  const [item, name, bar, number] = ["li", "bdi", "progress", "data"].map((tag) => document.createElement(tag));
  name.textContent = label;
  bar.value = p;
  bar.ariaHidden = "true"; // the number says the same
  number.value = p;
  number.textContent = percent(p);
  item.append(name, bar, number);
  return item;
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function listed(words, most) {
  const shown = words.slice(0, most).join(", ");
  return words.length > most ? `${shown} and ${words.length - most} more` : shown;
}
