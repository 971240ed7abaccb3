// The sections of a sweep.
const lastPart = (path) => path.split(".").slice(-2).join(".");

// From poor to good: dark blue to yellow, which the colour-blind can tell apart.
const shade = (t) => `hsl(${Math.round(250 - 200 * t)} 75% ${Math.round(40 + 15 * t)}%)`;

function scale(sweep) {
  const values = sweep.trials.map((t) => t.value).filter((v) => v !== null).sort((a, b) => a - b);
  // By rank, so that one outlier does not take all the colours.
  const rank = new Map(values.map((v, i) => [v, values.length > 1 ? i / (values.length - 1) : 1]));
  return (trial) => {
    if (trial.value === null) return "var(--quiet)";
    const t = rank.get(trial.value);
    return shade(sweep.maximize ? t : 1 - t);
  };
}

const describeTrial = (sweep, trial, i) => [
  element("b", {}, `${i + 1}. ${sweep.metric} ${number(trial.value)}`),
  ...sweep.axes.map((axis, k) => element("div", {}, `${lastPart(axis.path)}: ${trial.shown[k] || "–"}`)),
  trial.replica ? element("div", { class: "quiet" }, trial.replica) : "",
  trial.error ? element("div", { class: "bad" }, trial.error) : trial.stopped ? element("div", { class: "quiet" }, "given up early") : "",
];

// Lines over a picture, one lit at a time: by the pointer, or by the arrow keys once the picture has the focus.
function lit(figure, svg, marks, width, near, describe, tip) {
  svg.setAttribute("tabindex", 0);
  svg.setAttribute("role", "application");
  tip.hidden = true;
  let at = -1;
  const show = (i, place) => {
    if (at >= 0) marks[at].classList.remove("lit");
    at = i;
    tip.hidden = i < 0;
    if (i < 0) return;
    marks[i].classList.add("lit");
    marks[i].parentNode.append(marks[i]);
    tip.replaceChildren(...describe(i));
    const scale = svg.clientWidth / width;
    tip.style.left = `${Math.min(place[0] * scale + 16, Math.max(0, figure.clientWidth - 220))}px`;
    tip.style.top = `${below(figure, svg) + place[1] * scale + 14}px`;
  };
  const move = (event) => {
    const box = svg.getBoundingClientRect(), scale = width / box.width;
    const place = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    show(near(place[0], place[1]), place);
  };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", () => show(-1));
  svg.addEventListener("blur", () => show(-1));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") show(-1);
    if (!step) return;
    event.preventDefault();
    show((at + step + marks.length) % marks.length, [60, 40]);
  });
}

function parallel(sweep, colourOf) {
  const values = sweep.trials.map((t) => t.value).filter((v) => v !== null);
  if (!values.length || !sweep.axes.length) return null;
  // Names of choices stand left of their axis.
  const letters = Math.max(0, ...(sweep.axes[0]?.marks || []).map(([, text]) => Math.min(text.length, 22)));
  const width = 960, height = 360, top = 46, bottom = 16, left = Math.max(70, 14 + 6.5 * letters), right = 70;
  const [low, high] = extent(values);
  const result = { path: sweep.metric, marks: ticks(low, high > low ? high : low + 1, 4).filter((t) => t <= high).map((t) => [high > low ? (t - low) / (high - low) : 0.5, short(t)]) };
  const axes = [...sweep.axes, result];
  const x = (i) => left + (i * (width - left - right)) / (axes.length - 1);
  const y = (place) => height - bottom - place * (height - top - bottom);
  const svg = element("svg:svg", { viewBox: `0 0 ${width} ${height}`, "aria-label": `${sweep.trials.length} trials on ${axes.length} axes; arrow keys go through them, the best first` });
  const lines = element("svg:g", {});
  svg.append(lines);
  axes.forEach((axis, i) => {
    svg.append(element("svg:line", { x1: x(i), x2: x(i), y1: top, y2: height - bottom, class: "bar" }));
    svg.append(element("svg:text", { x: x(i), y: i % 2 ? 28 : 12, "text-anchor": "middle", class: "strong" }, lastPart(axis.path) + (axis.logarithmic ? " (log)" : "")));
    for (const [place, text] of axis.marks) {
      const end = i === axes.length - 1;
      svg.append(element("svg:text", { x: x(i) + (end ? 6 : -6), y: y(place) + 4, "text-anchor": end ? "start" : "end", class: "over" }, text.length > 22 ? `${text.slice(0, 21)}…` : text));
    }
  });
  const places = sweep.trials.map((t) => [...t.places, t.value === null ? null : high > low ? (t.value - low) / (high - low) : 0.5]);
  const marks = sweep.trials.map((trial, k) => {
    const points = places[k].map((place, i) => (place === null ? null : [x(i), y(place)])).filter(Boolean);
    const d = points.map((p, i) => `${i ? "L" : "M"}${p[0].toFixed(1)} ${p[1].toFixed(1)}`).join("");
    return element("svg:path", { d, fill: "none", stroke: colourOf(trial), class: "trial", "stroke-dasharray": trial.value === null || trial.stopped ? "3 3" : null });
  });
  // The best are drawn last, on top.
  lines.append(...[...marks].reverse());
  const near = (px, py) => {
    const gap = (width - left - right) / (axes.length - 1);
    const i = Math.min(Math.max(Math.floor((px - left) / gap), 0), axes.length - 2), t = (px - x(i)) / gap;
    let best = -1, least = 14;
    places.forEach((place, k) => {
      if (place[i] === null || place[i + 1] === null) return;
      const off = Math.abs(y(place[i] + t * (place[i + 1] - place[i])) - py);
      if (off < least) [best, least] = [k, off];
    });
    return best;
  };
  const tip = element("div", { class: "tip", role: "status", "aria-live": "polite" });
  const figure = element("figure", {}, element("figcaption", {}, "A line per trial, yellow the best and blue the worst by rank; dashed ones were given up or failed. Point at a line, or focus the picture and use the arrow keys."), element("div", { class: "wide" }, svg), tip);
  lit(figure, svg, marks, width, near, (k) => describeTrial(sweep, sweep.trials[k], k), tip);
  return figure;
}

function importance(sweep) {
  if (!sweep.importance.length) return null;
  const most = Math.max(...sweep.importance.map((i) => i.share), 1e-9);
  const bar = (share) => ({ text: percent(share), value: share, class: "meter", style: `background: linear-gradient(to right, rgba(var(--heat), .45) ${(100 * share) / most}%, transparent 0)` });
  return element("section", {}, element("h3", {}, "what each parameter explains"),
    element("p", { class: "quiet" }, "The share of the metric's variance over whole trials that lies between the values of one parameter by itself (ε² of a one-way analysis of variance, numbers in up to 8 bins of as many trials), and Spearman's rank correlation of value and metric. What parameters do together is in neither, and a guided search looks longer where it is good."),
    table("", ["parameter", "explains", "rank correlation"], sweep.importance.map((i) => [i.path, bar(i.share), i.correlation])));
}

function trialCurves(sweep, colourOf) {
  const shown = sweep.trials.map((trial, k) => ({ trial, k, points: trial.curve.filter((p) => p[1] !== null) })).filter((t) => t.points.length > 1).slice(0, 5000);
  if (!shown.length) return null;
  const all = shown.flatMap((t) => t.points);
  const width = broad(960);
  const { svg, x, y } = frame({ label: `${sweep.metric} of ${shown.length} trials by epoch; arrow keys go through them, the best first`, xs: extent(all.map((p) => p[0])), ys: extent(all.map((p) => p[1])), xLabel: "epoch", whole: true, width, height: Math.min(380, width) });
  const lines = element("svg:g", {});
  svg.append(lines);
  const marks = shown.map((t) => element("svg:path", { d: t.points.map((p, i) => `${i ? "L" : "M"}${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join(""), fill: "none", stroke: colourOf(t.trial), class: "trial" }));
  lines.append(...[...marks].reverse());
  const near = (px, py) => {
    let best = -1, least = 12 ** 2;
    shown.forEach((t, k) => t.points.forEach((p) => {
      const d = (x(p[0]) - px) ** 2 + (y(p[1]) - py) ** 2;
      if (d < least) [best, least] = [k, d];
    }));
    return best;
  };
  const tip = element("div", { class: "tip", role: "status", "aria-live": "polite" });
  const figure = element("figure", {}, element("figcaption", {}, `${sweep.metric} by epoch${shown.length < sweep.trials.length ? `, of the ${shown.length} of ${sweep.trials.length} trials that have several` : ""}`), svg, tip);
  lit(figure, svg, marks, width, near, (k) => describeTrial(sweep, shown[k].trial, shown[k].k), tip);
  return figure;
}

// The best choices with the intervals of their repetitions.
function intervals(sweep) {
  const repeated = sweep.choices.filter((c) => c.values.length > 1 && c.mean !== null).slice(0, 20);
  if (!repeated.length) return null;
  const ends = repeated.flatMap((c) => [...c.values, c.mean - (c.interval ?? 0), c.mean + (c.interval ?? 0)]);
  const { svg, x, y } = frame({ label: `${sweep.metric} of the best choices with 95 % intervals`, xs: extent(ends), ys: [0.5, repeated.length + 0.5], xLabel: sweep.metric, yTicks: [], width: broad(960), height: 60 + 20 * repeated.length });
  repeated.forEach((choice, i) => {
    const at = y(repeated.length - i);
    svg.append(element("svg:text", { x: 40, y: at + 4, "text-anchor": "end" }, String(i + 1)));
    if (choice.interval !== null) svg.append(element("svg:line", { x1: x(choice.mean - choice.interval), x2: x(choice.mean + choice.interval), y1: at, y2: at, class: "bar" }));
    for (const value of choice.values) svg.append(element("svg:circle", { cx: x(value), cy: at, r: 2.5, fill: "var(--quiet)" }));
    svg.append(element("svg:circle", { cx: x(choice.mean), cy: at, r: 5, fill: "var(--accent)" }, element("svg:title", {}, `${choice.shown.join(", ")}: ${number(choice.mean)} ± ${number(choice.interval)}`)));
  });
  return element("figure", {}, element("figcaption", {}, "The best choices by their number in the table, the best on top: mean, 95 % interval by Student's t, and each repetition. Repetitions by k-fold share training rows, so their intervals are somewhat narrow."), svg);
}

// Where the share of the training rows varies: the metric against it.
function learning(sweep) {
  const at = sweep.axes.findIndex((axis) => axis.path === "train.fraction");
  if (at < 0) return null;
  const groups = new Map();
  for (const choice of sweep.choices) {
    if (choice.mean === null || choice.numbers[at] === null) continue;
    const name = choice.shown.filter((_, i) => i !== at).join(", ") || sweep.metric;
    groups.set(name, [...(groups.get(name) || []), [Math.log10(choice.numbers[at]), choice.mean, choice.interval]]);
  }
  const series = [...groups].slice(0, 8).map(([name, points]) => ({ name, points: points.sort((a, b) => a[0] - b[0]) }));
  const shares = [...new Set(series.flatMap((s) => s.points.map((p) => p[0])))];
  const xTicks = shares.map((share) => [share, short(10 ** share)]);
  return lines(`learning curve: ${sweep.metric} by the share of the training rows`, series, { xLabel: "share of the training rows (log)", dots: true, xTicks, xText: (x) => short(10 ** x), width: broad(960), height: 300 });
}

function choices(sweep) {
  const repeated = sweep.choices.some((c) => c.values.length > 1);
  const headings = ["", sweep.metric, ...(repeated ? ["±", "trials"] : []), ...sweep.axes.map((axis) => lastPart(axis.path)), ""];
  const rows = sweep.choices.slice(0, 500).map((c, i) => [i + 1, c.mean, ...(repeated ? [c.interval, c.values.length] : []),
    ...sweep.axes.map((_, k) => ({ text: c.shown[k], value: c.numbers[k] ?? c.shown[k] })), c.error ? c.error : c.stopped ? "given up" : ""]);
  return table(`choices, the best first${sweep.choices.length > 500 ? `; 500 of ${sweep.choices.length}` : ""}`, headings, rows);
}

function sweepSection(sweep) {
  const section = element("section", { id: `sweep-${sweep.id}` }, element("h2", {}, `sweep of ${sweep.name} `, element("span", { class: "quiet" }, sweep.id)));
  for (const note of sweep.notes) section.append(element("p", { class: "quiet" }, note));
  const best = sweep.choices.find((c) => c.mean !== null);
  const count = (kind) => sweep.trials.filter(kind).length;
  const all = [
    best && [`best ${sweep.metric}`, best.interval === null ? number(best.mean) : `${number(best.mean)} ± ${number(best.interval)}`],
    ["trials", number(sweep.trials.length)],
    count((t) => t.stopped) && ["given up early", number(count((t) => t.stopped))],
    count((t) => t.error) && ["failed", number(count((t) => t.error))],
    ["training", seconds(sweep.seconds)],
  ];
  section.append(element("div", { class: "tiles" }, ...all.filter(Boolean).map(([name, value]) => element("div", { class: "tile" }, element("span", { class: "quiet" }, name), element("b", {}, value)))));
  const colourOf = scale(sweep);
  const parts = [parallel(sweep, colourOf), importance(sweep), trialCurves(sweep, colourOf), intervals(sweep), learning(sweep), choices(sweep)];
  section.append(...parts.filter(Boolean));
  if (sweep.runs.length) section.append(element("h3", {}, "runs of the best"), element("ul", {}, ...sweep.runs.map((run) => element("li", {}, element("code", {}, run)))));
  return section;
}
