"use strict";
// Enlarges an image of a gallery; without this script the page only lacks that.
const light = document.querySelector("#light");
let tiles = [];
let at = 0;

function show(step) {
  at = (at + step + tiles.length) % tiles.length;
  const parts = [tiles[at].querySelector("img"), tiles[at].querySelector(".words")];
  light.querySelector("#light-stage").replaceChildren(...parts.map((part) => part.cloneNode(true)));
  light.querySelector("#light-place").textContent = `${at + 1} of ${tiles.length}`;
}

document.addEventListener("click", ({ target }) => {
  const thumbnail = target.closest(".enlarge");
  if (thumbnail) {
    tiles = [...thumbnail.closest(".gallery").querySelectorAll("li:has(.enlarge)")];
    at = tiles.indexOf(thumbnail.closest("li"));
    show(0);
    light.showModal();
  } else if (target === light || target.closest("[data-close]")) light.close();
  else if (target.closest("[data-step]")) show(Number(target.dataset.step));
});
light.addEventListener("keydown", ({ key }) => {
  if (key === "ArrowRight" || key === "ArrowLeft") show(key === "ArrowRight" ? 1 : -1);
});
