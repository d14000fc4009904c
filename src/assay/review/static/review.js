"use strict";
// Plain JavaScript without a build step; requests go to the page's own server alone. A decision is shown as
// saved only after the server has confirmed that it is on disk.

const find = (selector, root = document) => root.querySelector(selector);
const body = document.body;
const memory = window.sessionStorage;

// By run: another run may be served at this address tomorrow.
const ofRun = (name) => `${name} ${body.dataset.run}`;
const recall = (name) => memory.getItem(ofRun(name));
const keep = (name, value) => memory.setItem(ofRun(name), value);

// One window is one client: undo is for the decisions of this window, also after a reload.
const client = recall("client") || newClient();
keep("client", client);

function newClient() {
  // Not randomUUID, which exists only on this machine or over https.
  return [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(16)).join("-");
}

let busy = false;
const ahead = new Map(); // item -> promise of its card as text

// ---- requests

async function request(address, sent) {
  const options = sent === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(sent),
  };
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Error("Not saved: no connection to the server. Is 'assay review' still running?");
  }
  const isJson = (response.headers.get("Content-Type") || "").startsWith("application/json");
  const found = isJson ? await response.json() : { error: await response.text() };
  return { ok: response.ok, status: response.status, ...found };
}

async function exclusively(work) {
  // A second key before the first decision is saved is a slip.
  if (busy) return;
  busy = true;
  announce("");
  try {
    await work();
  } catch (error) {
    warn(error.message);
  } finally {
    busy = false;
  }
}

// ---- messages

function announce(words) { find("#status").textContent = words; if (words) find("#alert").textContent = ""; }
function warn(words) { find("#alert").textContent = words; }

function showProgress(found) {
  if (found.summary === undefined) return;
  find("#bar").value = found.done;
  find("#bar").max = Math.max(found.total, 1);
  find("#count").textContent = `${found.done.toLocaleString("en")} of ${found.total.toLocaleString("en")} reviewed`;
  find("#progress").textContent = found.summary;
  find("#estimate").textContent = found.estimate;
}

function problem(found) {
  const stale = (found.results || []).find((result) => result.stale);
  if (stale) return `Not saved: ${stale.by} decided image ${stale.item} in the meantime. Its current state is shown.`;
  if (found.error) return `Not saved: ${found.error}`;
  return `Not saved: the server refused the request (${found.status}).`;
}

// ---- one image at a time

const card = () => find("#card");
const item = () => Number(card().dataset.item);
const number = (text) => (text ? Number(text) : null);

async function loadCard(wanted) {
  const response = await fetch(`/card/${wanted}`);
  if (!response.ok) throw new Error(`Image ${wanted} cannot be shown (${response.status}).`);
  return response.text();
}

function prefetch(wanted) {
  if (wanted === null || ahead.has(wanted)) return;
  const text = loadCard(wanted);
  text.then((found) => parse(found).querySelectorAll("img").forEach((image) => { new Image().src = image.src; }),
    () => ahead.delete(wanted));
  ahead.set(wanted, text);
}

function parse(text) { return new DOMParser().parseFromString(text, "text/html"); }

async function showItem(wanted, fresh = false) {
  if (fresh) ahead.delete(wanted);
  const text = await (ahead.get(wanted) || loadCard(wanted));
  ahead.clear(); // may be out of date
  const found = parse(text).querySelector("#card");
  const hadFocus = card().contains(document.activeElement);
  card().replaceWith(document.adoptNode(found));
  history.replaceState(null, "", `/item/${wanted}`);
  document.title = document.title.replace(/^Image \d+/, `Image ${wanted}`);
  if (hadFocus) find("#card-title").focus({ preventScroll: true });
  prefetch(number(card().dataset.next));
}

function marked() { return JSON.parse(recall("marked") || "[]"); }

function remember(count) {
  // Images of each request: one undo is for a whole page of the grid.
  keep("counts", JSON.stringify([...counts(), count]));
}

function counts() { return JSON.parse(recall("counts") || "[]"); }

function nextItem(suggested) {
  // Images marked in the grid come first.
  const [first, ...rest] = marked().filter((other) => other !== item());
  keep("marked", JSON.stringify(rest));
  return first === undefined ? suggested : first;
}

const title = () => find("#card-title").textContent.trim();

async function decide(label) {
  const { dataset } = card();
  if (dataset.locked) return warn("This image cannot be decided.");
  const words = classTitle(label);
  const choice = { item: item(), label, revision: Number(dataset.revision) };
  const found = await request("/decide", { client, choices: [choice] });
  showProgress(found);
  if (!found.ok) {
    if (found.status === 409) await showItem(choice.item, true);
    return warn(problem(found));
  }
  remember(1);
  const next = nextItem(found.next);
  if (next === null) {
    await showItem(choice.item, true);
    return announce(`Saved: ${words}. All images are reviewed.`);
  }
  await showItem(next);
  return announce(`Saved: ${words}. ${title()}`);
}

async function undo() {
  const done = counts();
  const found = await request("/undo", { client, count: done.pop() || 1 });
  if (found.results) keep("counts", JSON.stringify(done));
  showProgress(found);
  if (found.status === 404) return warn(found.error);
  const [result] = found.results || [];
  if (!result) return warn(problem(found));
  const notUndone = changedByOthers(found.results);
  if (body.dataset.view !== "review") {
    if (notUndone) memory.setItem("warning", notUndone);
    return location.reload();
  }
  if (result.item) await showItem(result.item, true);
  return notUndone ? warn(notUndone) : announce(`Undone. ${title()}`);
}

function changedByOthers(results) {
  const stale = results.filter((one) => one.stale);
  if (!stale.length) return "";
  const undone = results.length - stale.length;
  const [{ by, item: image }] = stale;
  const changed = stale.length === 1 ? `${by} has decided image ${image}` : `others have decided ${stale.length} images`;
  return `${undone ? `${undone} undone. ` : ""}Not undone: ${changed} in the meantime.`;
}

async function move(wanted, words) {
  if (wanted === null) return warn(words);
  await showItem(wanted);
  return announce(title());
}

const classTitle = (label) => (label === null ? "skipped" : label < 0 ? "belongs to no class" : find(`#card [data-label="${label}"] span`).textContent);

const ACTIONS = {
  accept: () => decide(Number(card().dataset.proposed)),
  none: () => decide(-1),
  skip: () => decide(null),
  undo,
  next: () => move(nextItem(number(card().dataset.next)), "No more images to review."),
  previous: () => move(number(card().dataset.previous), "This is the first image."),
  jump: () => {
    find("#jump-error").textContent = "";
    find("#jump").showModal();
    find("#jump-text").select();
  },
  help: () => { find("#help").showModal(); },
  zoom: () => {
    enlarge(false);
    find("#zoom-stage").replaceChildren(find("#card img.large").cloneNode());
    find("#zoom").showModal();
  },
};

function enlarge(larger) {
  find("#zoom-more").setAttribute("aria-pressed", larger);
  find("#zoom").classList.toggle("larger", larger);
}

async function jump(event) {
  if (event.submitter && event.submitter.value === "cancel") return;
  event.preventDefault();
  const text = find("#jump-text").value.trim();
  const found = await request(`/find?text=${encodeURIComponent(text)}`);
  if (!found.ok) {
    find("#jump-error").textContent = "No image has this number or name.";
    return;
  }
  find("#jump").close();
  await exclusively(() => move(found.item, ""));
}

// ---- fifty images

const cells = () => [...document.querySelectorAll("#grid button")];

function toggle(cell) {
  cell.setAttribute("aria-pressed", cell.getAttribute("aria-pressed") === "true" ? "false" : "true");
}

function walk(key) {
  const all = cells();
  const here = Math.max(all.indexOf(document.activeElement), 0);
  const columns = all.filter((cell) => cell.offsetTop === all[0].offsetTop).length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -here, End: all.length }[key];
  const there = all[Math.min(Math.max(here + step, 0), all.length - 1)];
  all.forEach((cell) => { cell.tabIndex = cell === there ? 0 : -1; });
  there.focus();
}

async function acceptGrid() {
  const label = Number(find("#grid").dataset.label);
  const isWrong = (cell) => cell.getAttribute("aria-pressed") === "true";
  const wrong = cells().filter(isWrong).map((cell) => Number(cell.dataset.item));
  const choices = cells().filter((cell) => !isWrong(cell)).map((cell) => (
    { item: Number(cell.dataset.item), label, revision: Number(cell.dataset.revision) }));
  if (choices.length) {
    const found = await request("/decide", { client, choices });
    showProgress(found);
    if (!found.results) return warn(problem(found));
    const stale = found.results.filter((result) => result.stale).length;
    if (stale < choices.length) remember(choices.length - stale);
    if (stale) memory.setItem("warning", `Not saved: ${stale} of the images were decided by others in the meantime.`);
  }
  if (wrong.length) {
    const [first, ...rest] = wrong;
    keep("marked", JSON.stringify(rest));
    location.assign(`/item/${first}`);
  } else {
    location.reload();
  }
  return undefined;
}

// ---- keys

function isTyping(target) {
  // The field of a dialog that was just closed keeps the focus for a moment.
  return target instanceof Element && target.closest("input, textarea, select, [contenteditable]") !== null
    && !target.closest("dialog:not([open])");
}

function actionOf(key) {
  // The card has the current keys, also if they were changed in another window.
  const shown = [...document.querySelectorAll("#card [data-action]")];
  if (shown.length) return shown.find((one) => one.dataset.key === key)?.dataset.action;
  return Object.keys(ACTIONS).find((name) => body.getAttribute(`data-key-${name}`) === key);
}

function classButton(key) {
  const all = [...document.querySelectorAll("#card .classes button")];
  // With Caps Lock a letter means the same class, unless another class has the capital.
  return all.find((one) => one.dataset.key === key)
    || all.find((one) => one.dataset.key.toLowerCase() === key.toLowerCase());
}

function onKey(event) {
  // Autofill sends events without a key.
  if (!event.key || event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat) return;
  if (find("#zoom[open]") && actionOf(event.key) === "zoom") find("#zoom").close();
  else if (isTyping(event.target) || find("dialog[open]")) return;
  else onSingleKey(event);
}

function onSingleKey(event) {
  if (memory.getItem("single-keys") === "off" && !event.key.startsWith("Arrow")) return;
  if (body.dataset.view === "review") reviewKey(event);
  if (body.dataset.view === "grid") gridKey(event);
}

function reviewKey(event) {
  const arrows = { ArrowRight: "next", ArrowLeft: "previous" };
  const action = actionOf(event.key) || arrows[event.key];
  const button = classButton(event.key);
  if (!action && !button) return;
  event.preventDefault();
  exclusively(() => (action ? ACTIONS[action]() : decide(Number(button.dataset.label))));
}

function gridKey(event) {
  if (!find("#grid")) return;
  const action = actionOf(event.key);
  if (/^(Arrow|Home$|End$)/.test(event.key)) walk(event.key);
  else if (action === "accept") exclusively(acceptGrid);
  else if (action === "undo") exclusively(undo);
  else return;
  event.preventDefault();
}

// ---- changing keys

async function saveKeys(keys) {
  const found = await request("/keys", { keys });
  if (!found.ok) return warn(problem(found));
  location.reload();
  return undefined;
}

function setUpKeys() {
  const form = find("#keys");
  const single = find("#single-keys");
  single.checked = memory.getItem("single-keys") !== "off";
  single.addEventListener("change", () => memory.setItem("single-keys", single.checked ? "on" : "off"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    // Of thousands of classes few have a key. Actions are always sent: an empty object means the default keys.
    const named = [...form.elements].filter((input) => input.name in ACTIONS || (input.name && input.value));
    exclusively(() => saveKeys(Object.fromEntries(named.map((input) => [input.name, input.value]))));
  });
  find("#default-keys").addEventListener("click", () => exclusively(() => saveKeys({})));
}

// ---- start

function onClick(event) {
  // A click on the image, or beside it, is larger or closed.
  if (event.target.closest("#zoom-stage img")) enlarge(!find("#zoom").classList.contains("larger"));
  if (event.target.id === "zoom") find("#zoom").close();
  const button = event.target.closest("button");
  if (!button || button.disabled) return;
  if (button.dataset.action) exclusively(() => ACTIONS[button.dataset.action]());
  else if (button.dataset.label) exclusively(() => decide(Number(button.dataset.label)));
  else if (button.id === "zoom-more") enlarge(button.getAttribute("aria-pressed") === "false");
  else if (button.id === "accept-grid") exclusively(acceptGrid);
  else if (button.closest("#grid")) toggle(button);
}

document.addEventListener("keydown", onKey);
document.addEventListener("click", onClick);
if (body.dataset.view === "review") {
  find("#jump form").addEventListener("submit", (event) => {
    jump(event).catch((error) => { find("#jump-error").textContent = error.message; });
  });
  history.replaceState(null, "", `/item/${item()}`);
  prefetch(number(card().dataset.next));
}
if (body.dataset.view === "keys") setUpKeys();
if (memory.getItem("warning")) {
  warn(memory.getItem("warning"));
  memory.removeItem("warning");
}
