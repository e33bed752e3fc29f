// Draws the figures once plotly.js is unpacked, gives them the page's colours, and sorts the table of trials.
const CONFIG = { displayModeBar: false, responsive: true };

async function unpackPlotly() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const [ink, paper, line] = ["--ink", "--paper", "--line"].map((name) => style.getPropertyValue(name).trim());
  return { "font.color": ink, "hoverlabel.bgcolor": paper, "hoverlabel.bordercolor": line, "hoverlabel.font.color": ink };
}

async function useColours(plot) {
  const page = colours();
  const withText = plot.data.filter((trace) => trace.texttemplate); // a matrix with counts in its cells
  for (const trace of withText) trace.textfont = { color: page["font.color"] };
  await Plotly.relayout(plot, page);
  if (withText.length) await Plotly.redraw(plot); // restyle leaves the texts of a heatmap as they are
}

async function draw() {
  await unpackPlotly();
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = [...document.querySelectorAll(".plot")];
  for (const plot of plots) {
    const { data, layout } = figures[plot.id];
    await Plotly.newPlot(plot, data, layout, CONFIG);
    await useColours(plot);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    plots.forEach(useColours);
  });
  document.documentElement.dataset.drawn = plots.length;
}

function sortBy(heading) {
  const body = heading.closest("table").tBodies[0];
  const column = heading.cellIndex;
  const falls = heading.getAttribute("aria-sort") === "ascending";
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", falls ? "descending" : "ascending");
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === ""); // what has no value comes last, whichever way
    const order = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
    return falls ? -order : order;
  };
  body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
}

for (const heading of document.querySelectorAll(".trials thead th")) {
  heading.tabIndex = 0;
  heading.addEventListener("click", () => sortBy(heading));
  heading.addEventListener("keydown", (event) => event.key === "Enter" && sortBy(heading));
}
draw().catch((error) => {
  document.getElementById("undrawn").hidden = false;
  console.error(error);
});
