// The sections of one run.
const percent = (x) => (x === null || x === undefined ? "–" : `${(100 * x).toFixed(1)} %`);
const seconds = (x) => (x < 120 ? `${x.toFixed(1)} s` : `${(x / 60).toFixed(1)} min`);
// A measure with as many digits as the others beside it.
const measure = (x) => (x === null || x === undefined ? null : Number.isInteger(x) && Math.abs(x) < 10 ? { text: x.toFixed(4), value: x } : x);
const figures = (...all) => element("div", { class: "grid" }, ...all);

function tiles(run) {
  const { computed, reused } = run.cost;
  const total = Object.values(run.cost.stages).reduce((a, b) => a + b, 0);
  const main = run.main_metric && run.metrics[run.main_metric];
  const all = [
    run.main_metric && [run.main_metric, measure(main)?.text ?? number(main)],
    ["backbone passes made", number(computed)],
    ["backbone passes saved", number(reused)],
    ["wall time", seconds(total)],
    run.cost.bytes !== null && ["activations read", bytes(run.cost.bytes)],
  ];
  return element("div", { class: "tiles" }, ...all.filter(Boolean).map(([name, value]) =>
    element("div", { class: "tile" }, element("span", { class: "quiet" }, name), element("b", {}, value))));
}

function bytes(n) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  const i = n > 0 ? Math.min(Math.floor(Math.log10(n) / 3), 4) : 0;
  return `${(n / 1000 ** i).toFixed(i ? 1 : 0)} ${units[i]}`;
}

// Curves of one quantity share a picture: train/loss and valid/loss.
function curves(run) {
  const groups = new Map();
  for (const curve of run.curves) {
    const quantity = curve.name.split("/").slice(1).join("/") || curve.name;
    groups.set(quantity, [...(groups.get(quantity) || []), curve]);
  }
  return [...groups].map(([quantity, series]) => lines(series.length > 1 ? quantity : series[0].name, series, { xLabel: "epoch", whole: true })).filter(Boolean);
}

function metrics(run) {
  const splits = ["train", "valid", "test"].filter((s) => Object.keys(run.metrics).some((m) => m.startsWith(`${s}/`)));
  const names = [...new Set(Object.keys(run.metrics).map((m) => m.split("/").slice(1).join("/")))];
  const rows = names.map((name) => [name, ...splits.map((split) => measure(run.metrics[`${split}/${name}`]))]);
  return table("metrics", ["metric", ...splits], rows);
}

function confusion(classes, counts) {
  const most = Math.max(1, ...counts.flat());
  const rows = counts.map((row, i) => [{ text: classes[i], class: "text" }, ...row.map((count, j) => {
    const share = count / most;
    return { text: String(count), value: count, class: i !== j && count ? "heat bad" : "heat", style: `background: rgba(var(--heat), ${(share * 0.55).toFixed(3)})` };
  })]);
  return table("confusion matrix: a row per true class, a column per predicted class", ["true \\ predicted", ...classes], rows, { fixed: true });
}

function perClass(evaluation) {
  const rows = evaluation.classes.map((c) => [c.name, c.support, measure(c.precision), measure(c.recall), measure(c.f1), measure(c.average_precision)]);
  return table("per class", ["class", "rows", "precision", "recall", "F1", "average precision"], rows);
}

function pixels(of) {
  return table(`pixels of ${of.split} pictures`, ["class", "pixels", "IoU", "precision", "recall"],
    of.classes.map((c) => [c.name, c.support, c.iou, c.precision, c.recall]));
}

function calibration(evaluation) {
  const bins = evaluation.calibration.filter((bin) => bin.count);
  return lines(`calibration: expected error ${number(evaluation.calibration_error)}`,
    [{ name: "share that is right", points: bins.map((bin) => [bin.confidence, bin.accuracy]) }],
    { xs: [0, 1], ys: [0, 1], xLabel: "predicted probability", diagonal: true, dots: true });
}

function gallery(title, note, examples, { thumbnails, texts }) {
  if (!examples.length) return null;
  const cards = examples.map((e) => element("div", { class: "card", tabindex: 0 },
    thumbnails[e.row] ? element("img", { src: thumbnails[e.row], alt: e.origin, decoding: "async" }) : null,
    texts[e.row] ? element("blockquote", {}, texts[e.row]) : null,
    element("div", {}, element("b", { class: e.label === e.predicted ? null : "bad" }, e.predicted), e.probability === null ? "" : ` ${percent(e.probability)}`),
    element("div", {}, "labelled ", element("b", {}, e.label), e.label_probability === null ? "" : ` ${percent(e.label_probability)}`),
    element("div", { class: "quiet" }, `${e.origin} (${e.split})`)));
  return element("section", {}, element("h3", {}, title), element("p", { class: "quiet" }, note), element("div", { class: "gallery" }, ...cards));
}

function classification(run, evaluation, section) {
  section.append(element("h3", {}, `${evaluation.split} rows`));
  if (evaluation.confusion) section.append(confusion(run.classes, evaluation.confusion));
  if (evaluation.confused.length) section.append(table(`classes taken for others most often, of ${run.classes.length}`, ["true", "predicted", "rows"], evaluation.confused.map(([y, p, count]) => [run.classes[y], run.classes[p], count])));
  section.append(perClass(evaluation));
  const curves = evaluation.precision_recall.map((curve) => ({ name: curve.class, points: curve.points }));
  section.append(figures(
    ...[lines("precision against recall", curves, { xs: [0, 1], ys: [0, 1], xLabel: "recall" }), calibration(evaluation)].filter(Boolean)));
}

function projection(run) {
  const p = run.projection;
  if (!p) return [];
  const describe = (point) => [
    run.thumbnails[point.row] ? element("img", { src: run.thumbnails[point.row], alt: "" }) : "",
    run.texts[point.row] ? element("blockquote", {}, run.texts[point.row]) : "",
    element("div", {}, p.names[point.class]),
    point.wrong ? element("div", { class: "bad" }, point.predicted === point.class ? "not all labels right" : `predicted ${p.names[point.predicted]}`) : "",
    element("div", { class: "quiet" }, point.origin),
  ];
  return [element("h3", {}, "features in two dimensions"),
    element("p", { class: "quiet" }, `${p.method}. Point at a mark, or focus the picture and use the arrow keys. Rings are wrong predictions.`),
    scatter(`${p.points.length} rows, coloured by ${run.fits.length ? "value" : run.evaluations.length && !run.evaluations[0].confusion && run.classes.length < p.names.length ? "first label" : "class"}`, p.points, p.names, describe, p.axes)];
}

// Predicted against true values; the arrow keys go through the points.
function fit(run, f) {
  const points = f.points.map(([row, truth, found]) => ({ row, x: truth, y: found, class: 0 }));
  const describe = (point) => [
    run.thumbnails[point.row] ? element("img", { src: run.thumbnails[point.row], alt: "" }) : "",
    run.texts[point.row] ? element("blockquote", {}, run.texts[point.row]) : "",
    element("div", {}, `${f.name}: ${number(point.x)}`),
    element("div", {}, `predicted ${number(point.y)}`),
  ];
  return scatter(`${f.name}, ${f.rows} ${f.split} rows: error ${number(f.rmse)} (root mean square), R² ${number(f.r2)}`, points, [f.name], describe, ["true", "predicted"], { diagonal: true, width: 460 });
}

function engine(run) {
  const rows = Object.entries(run.engine.facts).map(([name, value]) => [name, value]);
  const nodes = [table("engine", ["what", "value"], rows, { fixed: true })];
  if (run.engine.parity.length) {
    nodes.push(table("agreement with the source model in fp32", ["output", "cosine", "largest difference"],
      run.engine.parity.map((p) => [p.output, p.cosine.toFixed(6), p.max_difference])));
  }
  return nodes;
}

function runSection(run) {
  const section = element("section", { id: `run-${run.id}` }, element("h2", {}, `${run.name} `, element("span", { class: "quiet" }, run.id)));
  if (run.error) section.append(element("p", { class: "bad" }, run.error));
  for (const note of run.notes) section.append(element("p", { class: "quiet" }, note));
  section.append(tiles(run), figures(...curves(run)), metrics(run));
  section.append(...run.pixels.map(pixels));
  for (const evaluation of run.evaluations) classification(run, evaluation, section);
  if (run.fits.length) section.append(element("h3", {}, "predicted against true values"), figures(...run.fits.map((f) => fit(run, f))));
  const galleries = [
    gallery("confident errors", "Wrong, and the surest of it; held-out rows first.", run.confident_errors, run),
    gallery("worst rows", run.pixels.length ? "The pictures with the least pixels right: as the network sees them, with their mask, and with what was predicted." : run.fits.length ? "The greatest errors, in deviations of the value; held-out rows first." : run.confident_errors.length ? "The least probability for their label." : "The greatest loss; held-out rows first.", run.worst, run),
    gallery("suspected label errors", "The model is surer of another class than it usually is of that class's own rows (confident learning). Rows it was trained on are marked train: look at those last.", run.label_issues, run),
  ];
  section.append(...galleries.filter(Boolean), ...projection(run));
  section.append(element("h3", {}, "what it cost"), table("stages", ["stage", "seconds"],
    Object.entries(run.cost.stages).map(([stage, took]) => [stage, took])), ...engine(run));
  section.append(element("details", {}, element("summary", {}, "recipe"), element("pre", { tabindex: 0 }, run.recipe)));
  return section;
}

// Several runs side by side: what differs between their recipes, and their metrics.
function comparison(runs) {
  const keys = [...new Set(runs.flatMap((run) => Object.keys(run.settings)))];
  const differing = keys.sort().filter((key) => new Set(runs.map((run) => run.settings[key] ?? "")).size > 1);
  const metricNames = [...new Set(runs.flatMap((run) => Object.keys(run.metrics)))].sort();
  const headings = ["", ...runs.map((run) => `${run.name} ${run.id.slice(0, 8)}`)];
  const section = element("section", { id: "comparison" }, element("h2", {}, "side by side"));
  section.append(table("metrics", headings, metricNames.map((m) => [m, ...runs.map((run) => measure(run.metrics[m]))])));
  section.append(table("what differs in the recipes", headings, differing.map((key) => [key, ...runs.map((run) => run.settings[key] ?? "–")])));
  const quantities = [...new Set(runs.flatMap((run) => run.curves.map((c) => c.name)))];
  section.append(figures(...quantities.map((name) => lines(name, runs.flatMap((run) => run.curves.filter((c) => c.name === name)
    .map((c) => ({ name: `${run.name} ${run.id.slice(0, 8)}`, points: c.points }))), { xLabel: "epoch", whole: true })).filter(Boolean)));
  return section;
}
