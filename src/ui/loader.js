// Wakes the islands: loads the bindings and the wasm that its own tag names, then calls, for each
// <leptos-island>, the function that the element names. The page counts as awake when all of them are.
// If anything on the way is blocked or too old for the browser, the watchdog in the page takes over.
async function wake() {
  const { js, wasm } = document.querySelector("script[data-wasm]").dataset;
  const islands = await import(js);
  await islands.default({ module_or_path: wasm });
  islands.hydrate();
  for (const island of document.querySelectorAll("leptos-island")) {
    islands[island.dataset.component](island);
  }
  document.documentElement.dataset.awake = "";
}
wake().catch((error) => console.warn("this page follows the order without its islands:", error));
