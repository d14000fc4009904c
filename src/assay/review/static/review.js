"use strict";
// The page works without a build step and talks to its own server alone. A decision is shown as made only
// after the server has said that it is on the disk.

const find = (selector, root = document) => root.querySelector(selector);
const body = document.body;
const memory = window.sessionStorage;

// What this window did belongs to the run that it was done in: another one may have this address tomorrow.
const ofRun = (name) => `${name} ${body.dataset.run}`;
const recall = (name) => memory.getItem(ofRun(name));
const keep = (name, value) => memory.setItem(ofRun(name), value);

// One window, one client: undo takes back what this window did, also after a reload.
const client = recall("client") || newClient();
keep("client", client);

function newClient() {
  // Not randomUUID, which a page has only on this machine or over https.
  return [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(16)).join("-");
}

let busy = false;
const ahead = new Map(); // item -> promise of its card as text

// ---- talking to the server

async function ask(address, sent) {
  const options = sent === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(sent),
  };
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error("Not saved: the server does not answer. Is 'assay review' still running?");
  }
  const isJson = (answer.headers.get("Content-Type") || "").startsWith("application/json");
  const found = isJson ? await answer.json() : { error: await answer.text() };
  return { ok: answer.ok, status: answer.status, ...found };
}

async function alone(work) {
  // A second key before the first is acknowledged is a slip, not a decision.
  if (busy) return;
  busy = true;
  say("");
  try {
    await work();
  } catch (error) {
    warn(error.message);
  } finally {
    busy = false;
  }
}

// ---- saying what happened

function say(words) { find("#status").textContent = words; if (words) find("#alert").textContent = ""; }
function warn(words) { find("#alert").textContent = words; }

function showProgress(found) {
  if (found.words === undefined) return;
  find("#bar").value = found.done;
  find("#bar").max = Math.max(found.total, 1);
  find("#progress").textContent = found.words;
  find("#estimate").textContent = found.estimate;
}

function problem(found) {
  const stale = (found.results || []).find((result) => result.stale);
  if (stale) return `Not saved: ${stale.by} decided image ${stale.item} elsewhere meanwhile. Here is how it is now.`;
  if (found.error) return `Not saved: ${found.error}`;
  return `Not saved: the server refused this (${found.status}).`;
}

// ---- one image at a time

const card = () => find("#card");
const item = () => Number(card().dataset.item);
const number = (text) => (text ? Number(text) : null);

async function loadCard(wanted) {
  const answer = await fetch(`/card/${wanted}`);
  if (!answer.ok) throw new Error(`Image ${wanted} cannot be shown (${answer.status}).`);
  return answer.text();
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
  ahead.clear(); // what was fetched earlier may be out of date by now
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
  // How many images each decision was for: one undo takes back a whole page of the grid.
  keep("counts", JSON.stringify([...counts(), count]));
}

function counts() { return JSON.parse(recall("counts") || "[]"); }

function nextItem(suggested) {
  // Those marked in the grid come first.
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
  const found = await ask("/decide", { client, choices: [choice] });
  showProgress(found);
  if (!found.ok) {
    if (found.status === 409) await showItem(choice.item, true);
    return warn(problem(found));
  }
  remember(1);
  const next = nextItem(found.next);
  if (next === null) {
    await showItem(choice.item, true);
    return say(`Saved: ${words}. That was the last image that nobody looked at.`);
  }
  await showItem(next);
  return say(`Saved: ${words}. ${title()}`);
}

async function undo() {
  const done = counts();
  const found = await ask("/undo", { client, count: done.pop() || 1 });
  if (found.results) keep("counts", JSON.stringify(done));
  showProgress(found);
  if (found.status === 404) return warn(found.error);
  const [result] = found.results || [];
  if (!result) return warn(problem(found));
  const left = keptByOthers(found.results);
  if (body.dataset.view !== "review") {
    if (left) memory.setItem("warning", left);
    return location.reload();
  }
  if (result.item) await showItem(result.item, true);
  return left ? warn(left) : say(`Undone. ${title()}`);
}

function keptByOthers(results) {
  const stale = results.filter((one) => one.stale);
  if (!stale.length) return "";
  const undone = results.length - stale.length;
  const [{ by, item: image }] = stale;
  const kept = stale.length === 1 ? `${by} decided image ${image}` : `Others decided ${stale.length} images`;
  return `${undone ? `${undone} undone. ` : ""}${kept} elsewhere meanwhile: not undone.`;
}

async function move(wanted, words) {
  if (wanted === null) return warn(words);
  await showItem(wanted);
  return say(title());
}

const classTitle = (label) => (label === null ? "skipped" : find(`#card [data-label="${label}"] span`).textContent);

const ACTIONS = {
  accept: () => decide(Number(card().dataset.proposed)),
  skip: () => decide(null),
  undo,
  next: () => move(nextItem(number(card().dataset.next)), "There is no further image."),
  previous: () => move(number(card().dataset.previous), "This is the first image."),
  jump: () => {
    find("#jump-error").textContent = "";
    find("#jump").showModal();
    find("#jump-text").select();
  },
  help: () => { find("#help").showModal(); },
};

async function jump(event) {
  if (event.submitter && event.submitter.value === "cancel") return;
  event.preventDefault();
  const text = find("#jump-text").value.trim();
  const found = await ask(`/find?text=${encodeURIComponent(text)}`);
  if (!found.ok) {
    find("#jump-error").textContent = "There is no such image.";
    return;
  }
  find("#jump").close();
  await alone(() => move(found.item, ""));
}

// ---- fifty at once

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
    const found = await ask("/decide", { client, choices });
    showProgress(found);
    if (!found.results) return warn(problem(found));
    const stale = found.results.filter((result) => result.stale).length;
    if (stale < choices.length) remember(choices.length - stale);
    if (stale) memory.setItem("warning", `${stale} of them were decided elsewhere meanwhile and stay as they are.`);
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
  // For a moment the field of a dialog that was just closed still has the focus.
  return target instanceof Element && target.closest("input, textarea, select, [contenteditable]") !== null
    && !target.closest("dialog:not([open])");
}

function actionOf(key) {
  // The card that is seen has the keys of now, also where they were chosen anew in another window.
  const seen = [...document.querySelectorAll("#card [data-action]")];
  if (seen.length) return seen.find((one) => one.dataset.key === key)?.dataset.action;
  return Object.keys(ACTIONS).find((name) => body.getAttribute(`data-key-${name}`) === key);
}

function classButton(key) {
  const all = [...document.querySelectorAll("#card .classes button")];
  // With Caps Lock a letter is still that class, unless another one has the capital.
  return all.find((one) => one.dataset.key === key)
    || all.find((one) => one.dataset.key.toLowerCase() === key.toLowerCase());
}

function onKey(event) {
  // An event may come without a key, from a browser that fills in by itself; an action may be without one too.
  if (!event.key || event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat) return;
  if (isTyping(event.target) || find("dialog[open]")) return;
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
  alone(() => (action ? ACTIONS[action]() : decide(Number(button.dataset.label))));
}

function gridKey(event) {
  if (!find("#grid")) return;
  const action = actionOf(event.key);
  if (/^(Arrow|Home$|End$)/.test(event.key)) walk(event.key);
  else if (action === "accept") alone(acceptGrid);
  else if (action === "undo") alone(undo);
  else return;
  event.preventDefault();
}

// ---- choosing keys

async function saveKeys(keys) {
  const found = await ask("/keys", { keys });
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
    // Of thousands of classes few have a key; without the actions, no key at all would mean the usual ones.
    const named = [...form.elements].filter((input) => input.name in ACTIONS || (input.name && input.value));
    alone(() => saveKeys(Object.fromEntries(named.map((input) => [input.name, input.value]))));
  });
  find("#usual-keys").addEventListener("click", () => alone(() => saveKeys({})));
}

// ---- beginning

function onClick(event) {
  const button = event.target.closest("button");
  if (!button || button.disabled) return;
  if (button.dataset.action) alone(() => ACTIONS[button.dataset.action]());
  else if (button.dataset.label) alone(() => decide(Number(button.dataset.label)));
  else if (button.id === "accept-grid") alone(acceptGrid);
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
