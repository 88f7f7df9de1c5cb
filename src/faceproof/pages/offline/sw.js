// Keeps the page's own files, all of one version, so that it works without a connection.
// VERSION and FILES are written above by Python.

const OWN = `faceproof ${self.registration.scope} `;  // other pages of this server have caches too
const CACHE = OWN + VERSION;

self.addEventListener("install", (event) => {
  // no-cache asks the server whether a file has changed and does not load it twice.
  const wanted = FILES.map((file) => new Request(file, { cache: "no-cache" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(wanted)));
});

self.addEventListener("activate", (event) => {
  const old = async () => {
    for (const name of await caches.keys()) if (name.startsWith(OWN) && name !== CACHE) await caches.delete(name);
    await self.clients.claim();
  };
  event.waitUntil(old());
});

self.addEventListener("fetch", (event) => {
  if (event.request.method !== "GET" || new URL(event.request.url).origin !== location.origin) return;
  const kept = caches.match(event.request, { cacheName: CACHE, ignoreSearch: true });
  event.respondWith(kept.then((found) => found ?? fetch(event.request)));
});
