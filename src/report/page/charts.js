"use strict";
// Small charts in SVG: each takes data and returns an element. Colours are Okabe and Ito's, which the
// colour-blind can tell apart; more classes than those get hues of even steps.
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#b8a200", "#7a7a7a"];
const colour = (i, n) => (n <= COLOURS.length ? COLOURS[i] : `hsl(${Math.round((360 * i) / n)} 65% 50%)`);
const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes, ...children) {
  const node = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const number = (x) => {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (Number.isInteger(x)) return x.toLocaleString("en");
  const size = Math.abs(x);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? x.toExponential(2) : x.toFixed(size < 10 ? 4 : 1);
};
// A picture's width: as wanted, or what the screen of a phone has, so that its letters stay as large as the text.
const broad = (wanted) => Math.min(wanted, Math.max(300, document.documentElement.clientWidth - 56));
const short = (x) => String(Number(x.toPrecision(4)));

function ticks(low, high, count, whole) {
  const raw = whole ? Math.max(1, (high - low) / count) : (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
  const all = [];
  for (let x = Math.ceil(low / step) * step; x <= high + step * 1e-6; x += step) all.push(x);
  return all;
}

// A frame with axes; `x` and `y` map data to the picture.
function frame({ label, xs, ys, xLabel, yLabel, xTicks, yTicks, whole, width = broad(460), height = 260 }) {
  const span = ([low, high]) => (high > low ? [low, high] : [low - 0.5, high + 0.5]);
  const [x0, x1] = span(xs), [y0, y1] = span(ys);
  const left = 46, right = 8, top = 8, bottom = 34;
  const x = (v) => left + ((v - x0) / (x1 - x0)) * (width - left - right);
  const y = (v) => height - bottom - ((v - y0) / (y1 - y0)) * (height - top - bottom);
  const svg = element("svg:svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const t of yTicks || ticks(y0, y1, 4)) {
    svg.append(element("svg:line", { x1: left, x2: width - right, y1: y(t), y2: y(t), class: "axis" }));
    svg.append(element("svg:text", { x: left - 5, y: y(t) + 4, "text-anchor": "end" }, short(t)));
  }
  for (const [t, text] of xTicks || ticks(x0, x1, 5, whole).map((t) => [t, short(t)])) {
    svg.append(element("svg:text", { x: x(t), y: height - bottom + 15, "text-anchor": t === x1 && xTicks ? "end" : "middle" }, text));
  }
  svg.append(element("svg:text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, xLabel));
  if (yLabel) svg.append(element("svg:text", { x: 4, y: 10 }, yLabel));
  return { svg, x, y };
}

// Not by spreading, which a long list is too much for.
const extent = (values) => values.reduce(([low, high], x) => [x < low ? x : low, x > high ? x : high], [Infinity, -Infinity]);

const legend = (names, n) => element("div", { class: "legend" }, ...names.map((name, i) => {
  const dot = element("i", {});
  dot.style.background = colour(i, n || names.length);
  return element("span", {}, dot, name);
}));

// How far down a figure its picture begins, whose caption may take several lines.
const below = (figure, svg) => svg.getBoundingClientRect().top - figure.getBoundingClientRect().top;

// Lines; `series` is [{name, points: [[x, y], …]}], where a point may have half of an interval of y behind it.
function lines(label, series, options = {}) {
  const whole = series.map((s) => ({ ...s, points: s.points.filter((p) => p[1] !== null) })).filter((s) => s.points.length);
  const all = whole.flatMap((s) => s.points);
  if (!all.length) return null;
  const ys = options.ys || extent(all.flatMap((p) => [p[1] - (p[2] || 0), p[1] + (p[2] || 0)]));
  const { xLabel = "", yLabel, xTicks, whole: wholeNumbers, width, height } = options;
  const { svg, x, y } = frame({ label, xs: options.xs || extent(all.map((p) => p[0])), ys, xLabel, yLabel, xTicks, whole: wholeNumbers, width, height });
  if (options.diagonal) svg.append(element("svg:line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), class: "diagonal" }));
  whole.forEach((s, i) => {
    const path = s.points.map((p, k) => `${k ? "L" : "M"}${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join("");
    svg.append(element("svg:path", { d: path, fill: "none", stroke: colour(i, whole.length), "stroke-width": 2 }, element("svg:title", {}, s.name)));
    if (options.dots || s.points.length === 1) {
      for (const p of s.points) {
        if (p[2]) svg.append(element("svg:line", { x1: x(p[0]), x2: x(p[0]), y1: y(p[1] - p[2]), y2: y(p[1] + p[2]), stroke: colour(i, whole.length), "stroke-opacity": 0.6 }));
        svg.append(element("svg:circle", { cx: x(p[0]), cy: y(p[1]), r: 3, fill: colour(i, whole.length) },
          element("svg:title", {}, `${s.name}: ${options.xText ? options.xText(p[0]) : short(p[0])}, ${number(p[1])}${p[2] ? ` ± ${number(p[2])}` : ""}`)));
      }
    }
  });
  return element("figure", {}, element("figcaption", {}, label), svg, whole.length > 1 ? legend(whole.map((s) => s.name)) : null);
}

// A table whose headings sort it; a cell is a string, a number or {text, value, class, style}.
function table(caption, headings, rows, options = {}) {
  const body = element("tbody", {});
  const value = (cell) => (cell !== null && typeof cell === "object" ? cell.value ?? cell.text : cell);
  const fill = (ordered) => body.replaceChildren(...ordered.map((row) => element("tr", {}, ...row.map((cell) => {
    if (cell instanceof Node) return element("td", { class: "text" }, cell);
    if (cell !== null && typeof cell === "object") return element("td", { class: cell.class, style: cell.style }, cell.text);
    return element("td", { class: typeof cell === "string" ? "text" : null }, typeof cell === "string" ? cell : number(cell));
  }))));
  let sorted = null;
  const sort = (column, button) => {
    const down = sorted && sorted.column === column ? !sorted.down : true;
    sorted = { column, down };
    const key = (row) => value(row[column]);
    const ordered = [...rows].sort((a, b) => {
      const [p, q] = [key(a), key(b)];
      const order = typeof p === "number" && typeof q === "number" ? p - q : String(p ?? "").localeCompare(String(q ?? ""), "en", { numeric: true });
      return down ? -order : order;
    });
    for (const th of button.closest("tr").children) th.removeAttribute("aria-sort");
    button.closest("th").setAttribute("aria-sort", down ? "descending" : "ascending");
    fill(ordered);
  };
  // A heading stands where its cells do.
  const isText = (cell) => cell instanceof Node || typeof cell === "string" || (cell !== null && typeof cell === "object" && cell.class === "text");
  const head = headings.map((heading, column) => {
    const side = rows.length && rows.every((row) => row[column] === null || isText(row[column])) ? "text" : null;
    if (options.fixed) return element("th", { scope: "col", class: side }, heading);
    const button = element("button", { type: "button", title: "sort", onclick: () => sort(column, button) }, heading);
    return element("th", { scope: "col", class: side }, button);
  });
  fill(rows);
  const label = caption || headings.filter(Boolean).join(", ");
  const node = element("table", { "aria-label": label }, element("thead", {}, element("tr", {}, ...head)), body);
  const scroll = element("div", { class: rows.length > 40 ? "scroll long" : "scroll", tabindex: 0, role: "region", "aria-label": label }, node);
  return element("div", { class: "tabled" }, caption ? element("p", { class: "quiet" }, caption) : null, scroll);
}

// Points with a tip on hover, and by the arrow keys once the picture has the focus.
function scatter(label, points, names, describe, axes, options = {}) {
  const both = extent(points.flatMap((p) => [p.x, p.y]));
  const [xs, ys] = options.diagonal ? [both, both] : [extent(points.map((p) => p.x)), extent(points.map((p) => p.y))];
  const width = broad(options.width || 760);
  const { svg, x, y } = frame({ label, xs, ys, xLabel: axes[0], yLabel: axes[1], width, height: Math.min(480, Math.round(width * 0.8)) });
  svg.setAttribute("tabindex", 0);
  svg.setAttribute("role", "application");
  if (options.diagonal) svg.append(element("svg:line", { x1: x(both[0]), y1: y(both[0]), x2: x(both[1]), y2: y(both[1]), class: "diagonal" }));
  const marks = points.map((p) => {
    const mark = element("svg:circle", { cx: x(p.x), cy: y(p.y), r: 4, fill: colour(p.class, names.length), "fill-opacity": 0.75 });
    if (p.wrong) { mark.setAttribute("stroke", "var(--bad)"); mark.setAttribute("stroke-width", 1.5); }
    svg.append(mark);
    return mark;
  });
  const tip = element("div", { class: "tip", role: "status", "aria-live": "polite" });
  tip.hidden = true;
  const figure = element("figure", {}, element("figcaption", {}, label), svg, names.length > 1 && names.length <= 24 ? legend(names) : null, tip);
  let at = -1;
  const show = (i) => {
    if (at >= 0) marks[at].setAttribute("r", 4);
    at = i;
    tip.hidden = i < 0;
    if (i < 0) return;
    marks[i].setAttribute("r", 8);
    tip.replaceChildren(...describe(points[i]));
    const scale = svg.clientWidth / width;
    tip.style.left = `${Math.min(x(points[i].x) * scale + 20, Math.max(0, figure.clientWidth - 150))}px`;
    tip.style.top = `${below(figure, svg) + y(points[i].y) * scale + 14}px`;
  };
  const nearest = (event) => {
    const box = svg.getBoundingClientRect(), scale = width / box.width;
    const [px, py] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let best = -1, least = 15 ** 2;
    points.forEach((p, i) => {
      const d = (x(p.x) - px) ** 2 + (y(p.y) - py) ** 2;
      if (d < least) [best, least] = [i, d];
    });
    show(best);
  };
  svg.addEventListener("pointermove", nearest);
  svg.addEventListener("pointerdown", nearest);
  svg.addEventListener("pointerleave", () => show(-1));
  svg.addEventListener("blur", () => show(-1));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") show(-1);
    if (!step) return;
    event.preventDefault();
    show((Math.max(at, step > 0 ? -1 : 0) + step + points.length) % points.length);
  });
  return figure;
}
