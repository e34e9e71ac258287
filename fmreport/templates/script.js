"use strict";
// The page is whole without this script: it adds switches, copy buttons, enlarged figures, sorting, the reader's place, and
// a look at single images.
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
  const boxes = document.querySelectorAll("main [tabindex='0']:not(button)");
  const update = (box) => {
    const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
    box.tabIndex = scrolls ? 0 : -1;
  };
  const seen = new ResizeObserver((entries) => entries.forEach((entry) => update(entry.target)));
  boxes.forEach((box) => seen.observe(box));
}

// Of controls that belong together one is a stop of the Tab key; arrows lead to the others.
function roving(box, selector) {
  const all = () => [...box.querySelectorAll(selector)];
  const stop = (chosen) => all().forEach((one) => { one.tabIndex = one === chosen ? 0 : -1; });
  stop(all()[0]);
  box.addEventListener("focusin", (event) => {
    const chosen = event.target.closest(selector);
    if (chosen) stop(chosen);
  });
  box.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const items = all();
    const at = items.indexOf(document.activeElement);
    if (!step || at < 0) return;
    event.preventDefault();
    items[(at + step + items.length) % items.length].focus();
  });
}

// What a click on a head does is the vendored library's; it wants more than a few rows to be worth it.
function sortableTables() {
  for (const table of document.querySelectorAll("table.sortable")) {
    if (table.tBodies[0].rows.length < 4) continue;
    for (const head of table.tHead.rows[0].cells) {
      const button = element("button", { type: "button", className: "sort", title: "Sort by this column" });
      button.append(...head.childNodes);
      head.append(button);
    }
    roving(table.tHead, "button");
  }
}

function option(text, value) {
  return element("option", { textContent: text, value });
}

function choice(label, names, chosen) {
  const select = element("select", {});
  select.append(...names.map(option));
  select.value = Math.min(chosen, names.length - 1);
  const shown = element("label", { textContent: `${label} ` });
  shown.append(select);
  return [shown, select];
}

// Which images a model takes for what, and which of two models gets right, from the data of show_explorer.
function explorer(section) {
  const data = JSON.parse(section.querySelector("script").textContent);
  const [width, height] = data.size;
  const gallery = element("div", { className: "gallery" });
  const told = element("p", { className: "told", role: "status" });

  function tile(i, words) {
    const figure = element("figure", {});
    const picture = element("img", { src: data.sprite, width, height, alt: `Test image ${data.images[i]}`, className: "thumb" });
    const left = -width * (i % data.columns);
    const top = -height * Math.floor(i / data.columns);
    picture.style.objectPosition = `${left}px ${top}px`;
    figure.append(picture, element("figcaption", { textContent: `#${data.images[i]} ${words(i)}` }));
    return figure;
  }

  function show(title, places, words) {
    const some = places.slice(0, 60);
    const part = some.length < places.length ? `, of which ${some.length} are shown` : "";
    told.textContent = `${title}: ${places.length}${part}.`;
    gallery.replaceChildren(...some.map((i) => tile(i, words)));
  }

  const every = data.labels.map((_, i) => i);
  const name = (number) => data.classes[number];

  function matrix(model) {
    const counts = new Map();
    every.forEach((i) => {
      const [label, guess] = [data.labels[i], data.guesses[model][i]];
      if (label === guess) return;
      const cell = `${label} ${guess}`;
      counts.set(cell, [...(counts.get(cell) ?? []), i]);
    });
    const weight = data.classes.map(() => 0);
    counts.forEach((places, cell) => cell.split(" ").forEach((c) => { weight[c] += places.length; }));
    const most = weight.map((_, c) => c).sort((a, b) => weight[b] - weight[a]).slice(0, 12).sort((a, b) => a - b);
    const table = element("table", {});
    const head = table.createTHead().insertRow();
    head.append(element("td", { textContent: "" }));
    most.forEach((c) => head.append(element("th", { textContent: name(c), scope: "col" })));
    const body = table.createTBody();
    for (const label of most) {
      const row = body.insertRow();
      row.append(element("th", { textContent: name(label), scope: "row" }));
      for (const guess of most) {
        const cell = row.insertCell();
        const places = counts.get(`${label} ${guess}`);
        if (!places) { cell.textContent = label === guess ? "–" : "·"; continue; }
        const words = `${name(label)} taken for ${name(guess)}`;
        const button = element("button", { type: "button", textContent: places.length, ariaLabel: `${words}: ${places.length}` });
        button.addEventListener("click", () => show(`${data.models[model]}: ${words}`, places, () => ""));
        cell.append(button);
      }
    }
    return table;
  }

  const [modelLabel, model] = choice("Confusion matrix of", data.models, 0);
  const box = element("div", { className: "scroll matrix", tabIndex: 0, role: "region", ariaLabel: "Errors of the model" });
  const draw = () => {
    box.replaceChildren(matrix(+model.value));
    if (box.querySelector("button")) roving(box.firstChild, "button");
  };
  model.addEventListener("change", draw);
  draw();

  const [firstLabel, first] = choice("Compare", data.models, 0);
  const [secondLabel, second] = choice("with", data.models, 1);
  const buttons = element("div", { className: "sides" });
  const compare = () => {
    const [a, b] = [+first.value, +second.value];
    const right = (m, i) => data.guesses[m][i] === data.labels[i];
    const words = (i) => `${name(data.labels[i])}: ${name(data.guesses[a][i])} | ${name(data.guesses[b][i])}`;
    const sides = [
      [`Only ${data.models[a]} is correct`, every.filter((i) => right(a, i) && !right(b, i))],
      [`Only ${data.models[b]} is correct`, every.filter((i) => right(b, i) && !right(a, i))],
      ["Both are wrong", every.filter((i) => !right(a, i) && !right(b, i))],
    ];
    buttons.replaceChildren(...sides.map(([title, places]) => {
      const button = element("button", { type: "button", textContent: `${title}: ${places.length}` });
      button.addEventListener("click", () => show(title, places, words));
      return button;
    }));
  };
  [first, second].forEach((select) => select.addEventListener("change", compare));
  compare();

  const intro = element("p", { className: "title", textContent: "Image by image" });
  const hint = element("p", { textContent: "Rows: true class, columns: predicted class. Press a number to see its images." });
  const parts = [intro, modelLabel, hint, box];
  if (data.models.length > 1) parts.push(firstLabel, secondLabel, buttons);
  if (data.images.length < data.all) {
    parts.push(element("p", { textContent: `The first ${data.images.length} of ${data.all} images that a model gets wrong.` }));
  }
  section.append(...parts, told, gallery);
  section.hidden = false;
}

function largeFigures() {
  const dialog = document.querySelector("dialog");
  for (const image of document.querySelectorAll("figure.picture .plot img")) {
    const label = image.closest("figure").querySelector(".label")?.textContent ?? "figure";
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
  sortableTables();
  document.querySelectorAll(".plot:has(.point)").forEach((plot) => roving(plot, ".point"));
  document.querySelectorAll(".explorer").forEach(explorer);
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
