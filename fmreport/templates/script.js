"use strict";
// The page is whole without this script: it only adds switches, copy buttons, enlarged figures and the reader's place.
const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
const memory = {
  get: (key) => { try { return localStorage.getItem(key); } catch { return null; } },
  set: (key, value) => { try { localStorage.setItem(key, value); } catch { /* private mode, or a file: page */ } },
};
const stored = memory.get("fmreport-theme");
if (stored === "light" || stored === "dark") root.dataset.theme = stored;
root.classList.add("js");

function element(name, properties) {
  return Object.assign(document.createElement(name), properties);
}

function themeSwitch(button) {
  const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const show = () => button.setAttribute("aria-pressed", isDark());
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    memory.set("fmreport-theme", root.dataset.theme);
    show();
  });
  dark.addEventListener("change", show);
  show();
}

function codeSwitch(button) {
  const blocks = document.querySelectorAll("details.code");
  button.hidden = blocks.length === 0;
  const allOpen = () => [...blocks].every((block) => block.open);
  const show = () => button.setAttribute("aria-pressed", allOpen());
  blocks.forEach((block) => block.addEventListener("toggle", show));
  show();
  button.addEventListener("click", () => {
    const open = !allOpen();
    const anchor = [...document.querySelectorAll("main > *")].find((e) => e.getBoundingClientRect().bottom > 0);
    const before = anchor?.getBoundingClientRect().top;
    blocks.forEach((block) => { block.open = open; });
    show();
    // The reader's place stays where it was on the screen.
    if (anchor) scrollBy({ top: anchor.getBoundingClientRect().top - before, behavior: "instant" });
  });
}

function copyButtons() {
  for (const box of document.querySelectorAll(".copyable")) {
    const button = element("button", { type: "button", className: "copy", textContent: "Copy" });
    button.addEventListener("click", async () => {
      const text = box.querySelector("pre").textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(box.querySelector("pre"));
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    box.prepend(button);
  }
}

// Where nothing scrolls there is nothing to focus: each box that does not is no stop of the Tab key.
function scrollStops() {
  const boxes = document.querySelectorAll("main [tabindex='0']");
  const update = (box) => {
    const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
    box.tabIndex = scrolls ? 0 : -1;
  };
  const seen = new ResizeObserver((entries) => entries.forEach((entry) => update(entry.target)));
  boxes.forEach((box) => seen.observe(box));
}

function largeFigures() {
  const dialog = document.querySelector("dialog");
  for (const image of document.querySelectorAll("figure.picture > img")) {
    const label = image.parentElement.querySelector(".label")?.textContent ?? "figure";
    const button = element("button", { type: "button", className: "zoom", ariaLabel: `Enlarge ${label}: ${image.alt}` });
    image.replaceWith(button);
    button.append(image);
    button.addEventListener("click", () => {
      const large = image.cloneNode();
      large.removeAttribute("width");
      dialog.querySelector("div").replaceChildren(large);
      dialog.querySelector("p").textContent = image.closest("figure").querySelector("figcaption")?.textContent ?? "";
      dialog.showModal();
    });
  }
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}

function readersPlace(nav) {
  const items = [...nav.querySelectorAll("li")];
  const targets = items.map((item) => document.getElementById(item.querySelector("a").hash.slice(1)));
  const chapterOf = (index) => { while (index > 0 && !items[index].matches(".level-1")) index -= 1; return index; };
  const sectionOf = (index) => { while (index > 0 && items[index].matches(".level-3")) index -= 1; return index; };
  let current = -1;
  const update = () => {
    const line = innerHeight / 4;
    let index = Math.max(0, targets.findLastIndex((target) => target && target.getBoundingClientRect().top < line));
    if (innerHeight + scrollY >= root.scrollHeight - 2) index = items.length - 1;
    if (index === current) return;
    current = index;
    items.forEach((item, i) => {
      item.classList.toggle("near", chapterOf(i) === chapterOf(index));
      item.classList.toggle("here", sectionOf(i) === sectionOf(index));
      const link = item.querySelector("a");
      if (i === index) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    });
    const list = nav.querySelector("ol");
    const box = items[index].getBoundingClientRect();
    const frame = list.getBoundingClientRect();
    if (box.top < frame.top || box.bottom > frame.bottom) list.scrollTop += box.top - frame.top - frame.height / 3;
  };
  let waiting = false;
  addEventListener("scroll", () => {
    if (!waiting) requestAnimationFrame(() => { waiting = false; update(); });
    waiting = true;
  }, { passive: true });
  addEventListener("resize", update);
  update();
}

addEventListener("DOMContentLoaded", () => {
  const nav = document.querySelector("nav");
  nav.querySelector(".switches").hidden = false;
  themeSwitch(nav.querySelector("[data-switch=theme]"));
  codeSwitch(nav.querySelector("[data-switch=code]"));
  copyButtons();
  scrollStops();
  largeFigures();
  readersPlace(nav);
  const narrow = matchMedia("(max-width: 63.99rem)");
  const contents = nav.querySelector("details");
  const fold = () => { contents.open = !narrow.matches; };
  narrow.addEventListener("change", fold);
  fold();
  nav.addEventListener("click", (event) => { if (narrow.matches && event.target.closest("a")) contents.open = false; });
});
