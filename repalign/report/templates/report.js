"use strict";
addEventListener("error", (event) => { document.body.dataset.error = event.message; });

function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

// Maps and curves over the same layers of both sides, read together on one card.
function explore(cells, maps, curves) {
  const rows = cells.a.layers.length;
  const columns = cells.b.layers.length;
  const card = make("div", "card");
  let at = null;

  function written(value, digits) {
    if (value === null || value === undefined) return "";
    const text = value.toFixed(digits);
    return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "\u2212");
  }

  const known = (value) => value !== null && value !== undefined;
  const SCORE = 1e4; // parts of a score and of a p, as html.py writes them
  const P = 1e3;

  const score = (value, digits) => (known(value) ? written(value / SCORE, digits) : "");
  const probability = (p) => (known(p) ? (p < 1 ? "<0.001" : (p / P).toFixed(3)) : "");

  function bestOf(map, i) {
    const marks = map.dataset.best.split(" ");
    return Number(marks[i]);
  }

  function described(side, k) {
    const line = make("div", "layer");
    line.append(make("code", "", side.layers[k]), make("span", "", `${side.name}, depth ${written(side.depths[k], 2)}`));
    return line;
  }

  function shownColumns(first) {
    const all = [
      ["score", "value", (m, k) => (known(m.value[k]) ? score(m.value[k], 3) : "undefined")],
      ["interval", "ci_low", (m, k) => (known(m.ci_low[k]) && known(m.ci_high[k]) ? `[${score(m.ci_low[k], 2)}, ${score(m.ci_high[k], 2)}]` : "")],
      ["chance", "null_mean", (m, k) => score(m.null_mean[k], 2)],
      ["indep.", "independent", (m, k) => score(m.independent[k], 2)],
      ["p", "p", (m, k) => probability(m.p[k])],
      ["p adj.", "p_adjusted", (m, k) => probability(m.p_adjusted[k])],
      ["q", "q", (m, k) => probability(m.q[k])],
    ];
    return all.filter(([, key]) => key in first);
  }

  function table(k, here) {
    const shown = shownColumns(cells.metrics[0]);
    const stacked = shown.length > 3; // then a measure's name has a row of its own
    const whole = make("table", stacked ? "stacked" : "");
    const head = whole.createTHead().insertRow();
    if (!stacked) head.append(make("th", "", "measure"));
    shown.forEach(([text]) => head.append(make("th", "num", text)));
    const body = whole.createTBody();
    cells.metrics.forEach((metric, m) => {
      let row = body.insertRow();
      const name = make("th", "", metric.label);
      row.className = m === here ? "here" : "";
      row.append(name);
      if (stacked) {
        name.colSpan = shown.length;
        row = body.insertRow();
        row.className = "numbers-row";
      }
      shown.forEach(([, , write]) => row.append(make("td", "num", write(metric, k))));
    });
    return whole;
  }

  function remark(i, j) {
    const best = maps.filter((map) => bestOf(map, i) === j).map((map) => cells.metrics[map.dataset.map].label);
    const said = [];
    const all = best.length === maps.length && best.length > 1;
    if (best.length && columns > 1) said.push(`Best match of its row by ${all ? "every measure" : best.join("; ")}.`);
    if (cells.matched[i] === j) said.push("Nearest in depth.");
    return said.join(" ");
  }

  function fill(i, j, here) {
    const close = make("button", "", "\u00d7");
    close.type = "button";
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", hide);
    const note = remark(i, j);
    card.replaceChildren(close, described(cells.a, i), described(cells.b, j), table(i * columns + j, here));
    if (note) card.append(make("p", "", note));
  }

  function mark(plot, left, top, width, height) {
    let cursor = plot.querySelector(".cursor");
    if (!cursor) {
      cursor = make("div", "cursor");
      plot.append(cursor);
    }
    Object.assign(cursor.style, { left: `${left}%`, top: `${top}%`, width: `${width}%`, height: `${height}%` });
    cursor.hidden = false;
  }

  function place(plot, x, y, width) {
    const box = plot.getBoundingClientRect();
    const gap = 14;
    const size = card.getBoundingClientRect();
    let left = box.left + box.width * (x + width / 2) + gap;
    if (left + size.width > innerWidth - 8) left = box.left + box.width * (x - width / 2) - size.width - gap;
    const top = Math.min(box.top + box.height * y + gap, innerHeight - size.height - 8);
    card.style.left = `${Math.max(8, left)}px`;
    card.style.top = `${Math.max(8, top)}px`;
  }

  function show(plot, i, j) {
    const onCurve = "chart" in plot.dataset;
    at = { plot, i, j };
    fill(i, j, onCurve ? -1 : Number(plot.dataset.map));
    for (const map of maps) mark(map, (100 * j) / columns, (100 * (rows - 1 - i)) / rows, 100 / columns, 100 / rows);
    for (const curve of curves) mark(curve, 100 * cells.a.depths[i], 0, 0, 100);
    card.hidden = false;
    if (onCurve) place(plot, cells.a.depths[i], 0.3, 0);
    else place(plot, (j + 0.5) / columns, (rows - i - 0.5) / rows, 1 / columns);
  }

  function hide() {
    card.hidden = true;
    document.querySelectorAll(".cursor").forEach((cursor) => { cursor.hidden = true; });
  }

  function pointed(plot, event) {
    const box = plot.getBoundingClientRect();
    const x = Math.min(0.999999, Math.max(0, (event.clientX - box.left) / box.width));
    const y = Math.min(0.999999, Math.max(0, (event.clientY - box.top) / box.height));
    if ("chart" in plot.dataset) {
      let i = 0;
      cells.a.depths.forEach((z, k) => { if (Math.abs(z - x) < Math.abs(cells.a.depths[i] - x)) i = k; });
      return [i, cells.matched[i]];
    }
    return [rows - 1 - Math.floor(y * rows), Math.floor(x * columns)];
  }

  function start(plot) {
    if (at && at.plot === plot) return [at.i, at.j];
    if ("chart" in plot.dataset) return [0, cells.matched[0]];
    const { value: values, higher } = cells.metrics[plot.dataset.map];
    let k = 0;
    values.forEach((value, c) => {
      if (value !== null && (values[k] === null || (higher ? value > values[k] : value < values[k]))) k = c;
    });
    return [Math.floor(k / columns), k % columns];
  }

  function moved(plot, key, i, j) {
    const curve = "chart" in plot.dataset;
    const step = {
      ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
      PageUp: [10, 0], PageDown: [-10, 0], Home: [0, -columns], End: [0, columns],
    }[key];
    if (!step) return null;
    if (curve) {
      const next = Math.min(rows - 1, Math.max(0, i + Math.sign(step[0] + step[1])));
      return [next, cells.matched[next]];
    }
    return [Math.min(rows - 1, Math.max(0, i + step[0])), Math.min(columns - 1, Math.max(0, j + step[1]))];
  }

  function listen(plot) {
    plot.tabIndex = 0;
    plot.setAttribute("role", "group");
    plot.setAttribute("aria-roledescription", "map of scores");
    plot.setAttribute("aria-label", "Use the arrow keys to read scores, Escape to close");
    plot.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") show(plot, ...pointed(plot, event)); });
    plot.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch" && document.activeElement !== plot) hide(); });
    plot.addEventListener("click", (event) => { show(plot, ...pointed(plot, event)); });
    plot.addEventListener("focus", () => { if (plot.matches(":focus-visible")) show(plot, ...start(plot)); });
    plot.addEventListener("blur", () => { if (!card.matches(":hover")) hide(); });
    plot.addEventListener("keydown", (event) => {
      const next = moved(plot, event.key, ...start(plot));
      if (!next) return;
      event.preventDefault();
      show(plot, ...next);
    });
  }

  card.setAttribute("role", "status");
  card.hidden = true;
  document.body.append(card);
  [...maps, ...curves].forEach(listen);
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", () => { if (!card.hidden && innerWidth > 640) hide(); }, { passive: true });
  document.addEventListener("pointerdown", (event) => { if (![card, ...maps, ...curves].some((one) => one.contains(event.target))) hide(); });
}

function copyButton(command) {
  const code = command.querySelector("code");
  const button = make("button", "", "Copy");
  button.type = "button";
  button.addEventListener("click", () => {
    getSelection().selectAllChildren(code);
    const done = () => { button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
    if (navigator.clipboard) navigator.clipboard.writeText(code.textContent).then(done, () => { document.execCommand("copy"); done(); });
    else { document.execCommand("copy"); done(); }
  });
  command.append(button);
}

[].concat(JSON.parse(document.getElementById("cells").textContent)).forEach((cells, group) => {
  const found = (which) => [...document.querySelectorAll(which)].filter((plot) => Number(plot.dataset.group || 0) === group);
  explore(cells, found("[data-map]"), found("[data-chart=curve]"));
});
document.querySelectorAll(".command").forEach(copyButton);
document.body.classList.add("js");
document.body.dataset.ready = "yes";
