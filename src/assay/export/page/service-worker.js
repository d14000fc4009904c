// Keeps the page for use without a network. assay export fills in the files and the digest of their contents.

const FILES = "{files}";
const DIGEST = "{digest}";

const OWN = `assay ${registration.scope} `; // another page of this server may have its own
const NAME = OWN + DIGEST;

addEventListener("install", (event) => {
  // no-cache: what the page has just loaded is asked for again, but not sent again.
  const wanted = ["./", ...FILES].map((file) => new Request(file, { cache: "no-cache" }));
  event.waitUntil(caches.open(NAME).then((cache) => cache.addAll(wanted)));
});

addEventListener("activate", (event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) => names.filter((name) => name.startsWith(OWN) && name !== NAME))
      .then((old) => Promise.all(old.map((name) => caches.delete(name))))
      .then(() => clients.claim()),
  );
});

addEventListener("fetch", (event) => {
  const kept = caches.open(NAME).then((cache) => cache.match(event.request, { ignoreSearch: true }));
  event.respondWith(kept.then((found) => found ?? fetch(event.request)));
});
