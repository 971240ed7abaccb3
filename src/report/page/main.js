// Puts the page together from the data inside it.
const report = JSON.parse(document.getElementById("data").textContent);
document.getElementById("made").textContent = `caft ${report.caft}, made ${new Date(report.made_secs * 1000).toISOString().slice(0, 16).replace("T", " ")} UTC`;
const page = document.getElementById("report");
const contents = document.getElementById("contents");
const add = (section, name) => {
  page.append(section);
  contents.append(element("a", { href: `#${section.id}` }, name));
};
for (const sweep of report.sweeps) add(sweepSection(sweep), `sweep ${sweep.id}`);
if (report.runs.length > 1) add(comparison(report.runs), "side by side");
for (const run of report.runs) add(runSection(run), `${run.name} ${run.id.slice(0, 8)}`);
