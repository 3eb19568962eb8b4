"use strict";

// The data that `obdbench leaderboard --html` wrote; see obdbench/reporting/site/site_data.py.
const holder = document.getElementById("data");
const data = holder ? JSON.parse(holder.textContent) : null;
const main = document.getElementById("content");
const MISSING = "–";
const MAX_ROWS = 300;
const SVG = "http://www.w3.org/2000/svg";
const FAMILIES = ["distillation", "selection", "whole data"];
// Cividis, which is ordered by lightness and looks alike to people with color blindness.
const RAMP = [[0, 34, 78], [49, 68, 107], [87, 92, 109], [120, 118, 121], [155, 146, 119],
  [195, 178, 105], [235, 213, 75], [254, 232, 56]];

// ---- Elements ----------------------------------------------------------------------------------

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name,
      value);
  }
  element.append(...children.flat().filter((child) => child !== null));
  return element;
}
const html = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);
const familyClass = (family) => (family === "whole data" ? "whole" : family);
const fixed = (value, digits = 1) =>
  value === null || value === undefined ? MISSING
    : value.toFixed(digits).replace(/^-(?=0(\.0*)?$)/, "").replace("-", "−");
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
function deviation(values) {
  const center = mean(values);
  return Math.sqrt(values.reduce((sum, v) => sum + (v - center) ** 2, 0) / (values.length - 1));
}
const grouped = (value, digits) => value?.toLocaleString("en",
  { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−") ?? MISSING;
const meanText = (values) =>
  values.length > 1 ? `${fixed(mean(values))} ± ${fixed(deviation(values))}` : fixed(values[0]);
/** The scores of up to ten seeds, and how many are missing. */
const seedScores = (cell) => [cell.scores.slice(0, 10).map((score) => fixed(score)).join(", ")
  + (cell.scores.length > 10 ? ", …" : "") || MISSING,
  cell.scores.length < cell.expected ? ` (${cell.scores.length}/${cell.expected})` : ""].join("");
const unique = (values) => [...new Set(values)];
const method = (row) => data.methods[row.method];
const suiteOf = (row) => data.suites[row.suite];
/** A name with places for line breaks after "=" and "/". */
const breakable = (name) => name.split(/(?<=[=/])/).flatMap((part, index) =>
  (index ? [html("wbr"), part] : [part]));
const methodLink = (label) =>
  html("a", { href: `#method/${encodeURIComponent(label)}` }, breakable(label));
const datasetLink = (dataset) =>
  html("a", { href: `#dataset/${encodeURIComponent(dataset.id)}` }, dataset.name);
const localBadge = (suite) => (suite.local ? html("span", { class: "badge" }, "local") : null);

/** A link to a file of the project or of the user; other addresses stay text. */
function fileLink(prefix, file, text) {
  const path = prefix + file.split("/").map(encodeURIComponent).join("/");
  return html("a", { href: path.startsWith(".") || path.startsWith("/") ? path : `./${path}` },
    text);
}

// ---- Tables --------------------------------------------------------------------------------------

/**
 * A table whose columns sort: by number where a cell has one, else by text; missing values stay last.
 * A column is {name, word, sort, plain}; a cell is {content, value, long}.
 */
function sortableTable(caption, columns, rows, options = {}) {
  const body = html("tbody"), rest = html("p");
  let limit = MAX_ROWS;
  const state = { column: options.column ?? null, rising: false };
  const heads = columns.map((column, index) => {
    const button = column.plain ? column.name : html("button", { type: "button" }, column.name);
    const head = html("th", { scope: "col", class: column.word ? "word" : null }, button);
    if (!column.plain) {
      button.addEventListener("click", () => {
        state.rising = state.column === index ? !state.rising : Boolean(column.word);
        state.column = index;
        draw();
        announce(`Sorted by ${column.name}, ${state.rising ? "ascending" : "descending"}`);
      });
    }
    return head;
  });
  const textOf = (cell) => cell.text ?? (cell.content instanceof Node ? cell.content.textContent
    : cell.content);
  function compare(a, b) {
    const [x, y] = [a[state.column], b[state.column]];
    const [p, q] = [x.value ?? null, y.value ?? null];
    const sign = state.rising ? 1 : -1;
    if (p !== null && q !== null) return sign * (p - q);
    if (p !== null || q !== null) return p !== null ? -1 : 1;
    return sign * textOf(x).localeCompare(textOf(y), "en", { numeric: true });
  }
  function draw() {
    heads.forEach((head, index) => {
      if (index === state.column) head.setAttribute("aria-sort", state.rising ? "ascending"
        : "descending");
      else head.removeAttribute("aria-sort");
    });
    const ordered = state.column === null ? rows : [...rows].sort(compare);
    body.replaceChildren(...ordered.slice(0, limit).map((row) => html("tr", {}, row.map((cell,
      index) => {
      const names = [columns[index].word ? "word" : "", cell.long ? "long" : ""].join(" ").trim();
      const content = Array.isArray(cell.content) ? cell.content : [cell.content];
      const first = index === 0;
      return html(first ? "th" : "td", { class: names || null, scope: first ? "row" : null },
        content);
    }))));
    if (ordered.length > limit) {
      const button = html("button", { type: "button" }, `Show all ${ordered.length} rows`);
      button.addEventListener("click", () => { limit = Infinity; draw(); region.focus(); });
      rest.replaceChildren(`The first ${limit} rows are shown. `, button);
    } else rest.remove();
  }
  const table = html("table", { class: options.wide ? "wide" : null },
    html("caption", { class: "unseen" }, caption), html("thead", {}, html("tr", {}, heads)), body);
  const region = html("div", { class: "scroll", tabindex: 0, role: "region",
    "aria-label": caption }, table);
  const block = html("div", {}, region, rest);
  draw();
  return block;
}
const wordColumn = (name) => ({ name, word: true });
const numberColumn = (name) => ({ name });
const chartColumn = (name) => ({ name, word: true, plain: true });

function announce(text) {
  document.getElementById("status").textContent = text;
}

function select(label, values, chosen, onChange, names = {}) {
  const control = html("select", {}, values.map((value) =>
    html("option", { value, selected: value === chosen }, names[value] ?? value)));
  control.addEventListener("change", () => onChange(control.value));
  return html("label", {}, label, control);
}

// ---- Charts --------------------------------------------------------------------------------------

/** A range that contains the values and zero, with round ticks. */
function scoreAxis(values) {
  const low = Math.min(0, ...values), high = Math.max(10, ...values);
  const unit = 10 ** Math.floor(Math.log10((high - low) / 2.5));
  const step = [1, 2, 5, 10].map((n) => n * unit).find((s) => (high - low) / s <= 6);
  const last = Math.ceil(high / step) * step, ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= last; tick += step) ticks.push(tick);
  return { low, high: last, ticks, x: (v, width) => 8 + (v - low) / (last - low) * (width - 16) };
}
const WIDTH = 190, HEIGHT = 26;
function strip(axis, label, ...marks) {
  const grid = axis.ticks.map((tick) =>
    svg("line", { x1: axis.x(tick, WIDTH), x2: axis.x(tick, WIDTH), y1: 0, y2: HEIGHT }));
  return svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img", "aria-label": label }, svg("g", { class: "grid" }, grid), ...marks);
}
const axisText = (axis) =>
  `lines: ${fixed(axis.ticks[0], 0)} to ${fixed(axis.high, 0)} by ${axis.ticks[1] - axis.ticks[0]}`;

/** Symbols tell families apart without color: circle, diamond, square. */
function symbol(family, x, y, size = 5, name = "mark", title = null) {
  const label = title === null ? null : svg("title", {}, title);
  if (family === "distillation") return svg("circle", { class: name, cx: x, cy: y, r: size },
    label);
  if (family === "selection") {
    return svg("path", { class: name,
      d: `M${x} ${y - size * 1.25}l${size} ${size * 1.25}l${-size} ${size * 1.25}l${-size} ${-size * 1.25}z` }, label);
  }
  return svg("rect", { class: name, x: x - size * 0.9, y: y - size * 0.9, width: size * 1.8,
    height: size * 1.8 }, label);
}
function intervalChart(axis, family, [estimate, low, high]) {
  const middle = HEIGHT / 2, x = (value) => axis.x(value, WIDTH);
  const bounds = low === null ? "" : `, 95% interval ${fixed(low)} to ${fixed(high)}`;
  return strip(axis, `${family}: ${fixed(estimate)}${bounds}`, svg("g", { class: familyClass(family) },
    svg("rect", { class: "bar", x: Math.min(x(0), x(estimate)), y: 6,
      width: Math.abs(x(estimate) - x(0)), height: HEIGHT - 12 }),
    low === null ? null : svg("path", { class: "interval", fill: "none",
      d: `M${x(low)} ${middle}H${x(high)}M${x(low)} 7V${HEIGHT - 7}M${x(high)} 7V${HEIGHT - 7}` }),
    symbol(family, x(estimate), middle)));
}
function seedChart(axis, family, cell) {
  const center = axis.x(mean(cell.scores), WIDTH);
  const text = cell.scores.map((score, i) => `seed ${cell.seeds[i]}: ${fixed(score)}`).join(", ");
  return strip(axis, text, svg("line", { class: "mean", x1: center, x2: center, y1: 4,
    y2: HEIGHT - 4 }),
    svg("g", { class: familyClass(family) }, cell.scores.map((score, i) =>
      symbol(family, axis.x(score, WIDTH), HEIGHT / 2, 5.5, "dot",
        `seed ${cell.seeds[i]}: ${fixed(score)}`))));
}

/** Curves of one dataset: thin lines per seed, a thick line for their mean. */
function curvePanel(title, family, curves, axis) {
  const width = 280, height = 170, left = 30, bottom = 24;
  const series = curves.map(([steps, values]) => [data.steps[steps], values]);
  const last = Math.max(...series.flatMap(([steps]) => steps), 1);
  const x = (step) => left + step / last * (width - left - 10);
  const y = (value) =>
    height - bottom - (value - axis.low) / (axis.high - axis.low) * (height - bottom - 8);
  const path = (steps, values) => steps.map((s, i) =>
    `${i ? "L" : "M"}${x(s).toFixed(1)} ${y(values[i]).toFixed(1)}`).join("");
  const shared = series.filter(([steps]) => steps === series[0][0]);
  const average = series[0][0].map((_, i) => mean(shared.map(([, values]) => values[i])));
  const label = `${title}: mean ${fixed(average[0])} at step ${series[0][0][0]}, ${fixed(average.at(-1))} at step ${last}`;
  return html("figure", {}, html("figcaption", {}, title), svg("svg", {
    viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    axis.ticks.map((tick) => [svg("line", { class: "axis", x1: left, x2: width - 10, y1: y(tick),
      y2: y(tick) }),
      svg("text", { x: left - 5, y: y(tick) + 4, "text-anchor": "end" }, fixed(tick, 0))]).flat(),
    svg("text", { x: left, y: height - 6 }, "0"),
    svg("text", { x: width - 10, y: height - 6, "text-anchor": "end" }, `step ${last}`),
    svg("g", { class: familyClass(family) },
      series.map(([steps, values]) => svg("path", { class: "curve", d: path(steps, values) })),
      svg("path", { class: "average", d: path(series[0][0], average) }))));
}

/** Base64 of little-endian 16-bit integers to rows of numbers. */
function decode(text, width) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length / 2 / width }, (_, row) =>
    Array.from({ length: width }, (_, i) => view.getInt16(2 * (row * width + i),
      true) / data.scale));
}
function rampColor(value) {
  const position = Math.max(0, Math.min(1, value)) * (RAMP.length - 1);
  const from = RAMP[Math.floor(position)], to = RAMP[Math.ceil(position)];
  return `rgb(${from.map((v, i) => Math.round(v + (to[i] - v) * (position % 1))).join(",")})`;
}
/** States in two principal components: the data as a cloud, distilled pairs colored by an action. */
function statePicture(dataset, pairs, action, bound) {
  const cloud = dataset.states ? decode(dataset.states, 2) : [];
  const points = [...cloud, ...pairs];
  const range = (axis) => {
    const values = points.map((point) => point[axis]).sort((a, b) => a - b);
    const margin = (values.at(-1) - values[0]) * 0.04 || 1;
    return [values[0] - margin, values.at(-1) + margin];
  };
  const [[x0, x1], [y0, y1]] = [range(0), range(1)];
  const width = 600, height = 420;
  const x = (v) => (30 + (v - x0) / (x1 - x0) * (width - 40)).toFixed(1);
  const y = (v) => (height - 30 - (v - y0) / (y1 - y0) * (height - 40)).toFixed(1);
  const share = (i) => (dataset.explained
    ? ` (${Math.round(100 * dataset.explained[i])}% of the variance)` : "");
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${cloud.length} states of the data and ${pairs.length} distilled states in two principal components` },
    svg("rect", { x: 29, y: 9, width: width - 38, height: height - 38, fill: "none",
      class: "axis" }),
    svg("path", { class: "cloud", d: cloud.map(([a, b]) => `M${x(a)} ${y(b)}h0`).join("") }),
    pairs.map((pair) => svg("circle", { class: "pair", cx: x(pair[0]), cy: y(pair[1]), r: 4.5,
      fill: rampColor((pair[2 + action] + bound) / (2 * bound)) },
      svg("title", {}, `action ${action + 1}: ${fixed(pair[2 + action], 2)}`))),
    svg("text", { x: width - 12, y: height - 12, "text-anchor": "end" }, `component 1${share(0)}`),
    svg("text", { x: 20, y: 12, transform: `rotate(-90 20 12)`, "text-anchor": "end" },
      `component 2${share(1)}`));
}

// ---- Pages ---------------------------------------------------------------------------------------

const ALL = "all";
const filters = { data: null, task: ALL, budget: ALL, family: ALL, protocol: "default",
  results: ALL };

/** Choices of rows whose averages are comparable: one suite on one data source, or all of a source. */
function dataChoices() {
  const sources = unique(data.rows.map((row) => row.source)).sort();
  return [ALL, ...sources.flatMap((source) => {
    const suites = unique(data.rows.filter((row) => row.source === source).map((row) =>
      suiteOf(row).name));
    return suites.length > 1 ? [source, ...suites.map((suite) => `${source}, suite ${suite}`)]
      : [source];
  })];
}
const dataNames = (row) => [ALL, row.source, `${row.source}, suite ${suiteOf(row).name}`];
/** The choice with the most datasets; with local results, their source. */
function firstChoice(choices) {
  const local = data.rows.find((row) => suiteOf(row).local);
  if (local) return local.source;
  const largest = data.rows.reduce((best, row) => (row.cells.length > best.cells.length ? row
    : best));
  return dataNames(largest).findLast((name) => choices.includes(name));
}

function leaderboardPage() {
  const place = html("div");
  const distinct = (name) => [ALL, ...unique(data.rows.map((row) => row[name])).sort()];
  const tasks = [ALL, ...unique(data.datasets.map((dataset) => dataset.task).filter(Boolean))];
  const change = (name) => (value) => { filters[name] = value; draw(); };
  const local = data.suites.some((suite) => suite.local);
  if (!data.rows.some((row) => row.protocol === filters.protocol)) filters.protocol = ALL;
  filters.data ??= firstChoice(dataChoices());
  const controls = html("div", { class: "filters", role: "group", "aria-label": "Filters" },
    select("Data source", dataChoices(), filters.data, change("data")),
    select("Task", tasks, filters.task, change("task")),
    select("Budget", distinct("budget"), filters.budget, change("budget")),
    select("Method family", [ALL, ...FAMILIES], filters.family, change("family")),
    select("Protocol", distinct("protocol"), filters.protocol, change("protocol")),
    local ? select("Results", [ALL, "published", "local"], filters.results, change("results"))
      : null);
  function draw() {
    const rows = data.rows.filter((row) =>
      dataNames(row).includes(filters.data) && [ALL, row.budget].includes(filters.budget)
      && [ALL, method(row).family].includes(filters.family) && [ALL,
        row.protocol].includes(filters.protocol)
      && (filters.results === ALL || suiteOf(row).local === (filters.results === "local"))
      && (filters.task === ALL || row.cells.some((cell) =>
        data.datasets[cell.dataset].task === filters.task)));
    const averages = rows.map((row) => row.average[filters.task]).filter(Boolean);
    const axis = scoreAxis(averages.flat().filter((value) => value !== null));
    const arms = rows.some((row) => row.arm), suites = unique(rows.map((row) => row.suite));
    const extras = filters.task === ALL ? unique(rows.flatMap((row) => Object.keys(row.extra)))
      : [];
    const columns = [wordColumn("method"), ...(arms ? [wordColumn("arm")] : []),
      numberColumn("average"),
      chartColumn(`95% interval\n(${axisText(axis)})`), ...extras.map(numberColumn),
        numberColumn("rank"), ...(suites.length > 1 ? [wordColumn("data, suite")] : []),
      wordColumn("budget"), numberColumn("scores")];
    const cells = rows.map((row) => {
      const average = row.average[filters.task];
      return [
        { content: [methodLink(method(row).label), localBadge(suiteOf(row))],
          text: method(row).label, long: true },
        ...(arms ? [{ content: row.arm || MISSING }] : []),
        { content: average ? fixed(average[0]) : MISSING, value: average?.[0] },
        { content: average ? intervalChart(axis, method(row).family, average) : "incomplete",
          text: "" },
        ...extras.map((name) => ({ content: row.extra[name]?.[0] ?? MISSING,
          value: row.extra[name]?.[1] })),
        { content: row.rank ?? MISSING, value: row.rank },
        ...(suites.length > 1 ? [{ content: [suiteOf(row).name === row.source ? ""
          : `${row.source}, `, html("a", { href: `#tables/${row.suite}` }, suiteOf(row).name)],
          text: `${row.source} ${suiteOf(row).name}` }] : []),
        { content: row.budget, long: true },
        { content: `${row.n}/${row.expected}`, value: row.n / Math.max(1, row.expected) },
      ].map((cell) => ({ ...cell, content: typeof cell.content === "number" ? String(cell.content)
        : cell.content }));
    });
    const average = columns.findIndex((column) => column.name === "average");
    place.replaceChildren(...(cells.length
      ? [sortableTable("Leaderboard", columns, cells, { column: average, wide: true }),
        suites.length > 1 ? "" : html("p", {}, html("a", { href: `#tables/${suites[0]}` },
          "All tables of this suite"), ": scores by dataset, comparisons, cost and result files.")]
      : [html("p", {}, "No row matches these filters.")]));
    announce(`${rows.length} rows`);
  }
  draw();
  return [html("h1", {}, "Leaderboard"),
    html("p", { class: "soft" },
      "Mean over datasets of the mean over seeds, with its 95% Student interval. ",
      "Ranks compare the complete rows of one suite and data source, except those of the whole data; ",
      "averages over different datasets are not comparable. Select a method for its seeds, curves and settings."),
    controls, familyLegend(), place];
}
const familyLegend = () => html("ul", { class: "legend", "aria-label": "Symbols" },
  FAMILIES.map((family) =>
  html("li", {}, svg("svg", { viewBox: "0 0 14 12", class: familyClass(family),
    "aria-hidden": "true" },
    symbol(family, 7, 6, 4.5)), ` ${family}`)));

function methodPage(label) {
  const rows = data.rows.filter((row) => method(row).label === label);
  if (!rows.length) return notFound("method", label);
  const about = method(rows[0]).about;
  const parts = [html("h1", {}, label), html("p", {}, about ? `${method(rows[0]).family}: ${about}`
    : method(rows[0]).family)];
  const single = rows.filter((row) => !row.arm), several = rows.filter((row) => row.arm);
  for (const row of single) {
    const axis = scoreAxis(row.cells.flatMap((cell) => [...cell.scores,
      ...cell.curves.flatMap((c) => c[1])]));
    const average = row.average[ALL];
    parts.push(html("h2", {}, rowTitle(row), localBadge(suiteOf(row))),
      html("p", {}, average ? `Average ${fixed(average[0])}` + (average[1] === null ? ""
        : ` (95% interval ${fixed(average[1])} to ${fixed(average[2])})`)
        : `Incomplete: ${row.n} of ${row.expected} scores.`, row.rank ? `, rank ${row.rank}.`
          : ""));
    parts.push(sortableTable(`Scores of ${label}, ${rowTitle(row)}${suiteOf(row).local ? ", local" : ""}`,
      [wordColumn("dataset"), numberColumn("mean ± std over seeds"),
        chartColumn(`every seed\n(${axisText(axis)})`), { name: "scores of the seeds", plain: true }],
      row.cells.map((cell) => [
        { content: datasetLink(data.datasets[cell.dataset]) },
        { content: cell.scores.length ? meanText(cell.scores) : cell.status,
          value: cell.scores.length ? mean(cell.scores) : null },
        { content: cell.scores.length ? seedChart(axis, method(row).family, cell) : MISSING,
          text: "" },
        { content: seedScores(cell) }])));
    const panels = row.cells.filter((cell) => cell.curves.length);
    if (panels.length) {
      parts.push(html("h3", {}, "Convergence"), html("p", { class: "soft" },
        "Score by outer step: thin lines per seed, a thick line for their mean."),
        html("div", { class: "panels" }, panels.map((cell) =>
          curvePanel(data.datasets[cell.dataset].name, method(row).family, cell.curves, axis))));
    }
    parts.push(...synsetLinks(row), settingsList(row));
  }
  if (several.length) {
    const axis = scoreAxis(several.flatMap((row) => row.average[ALL] ?? []).filter((v) =>
      v !== null));
    parts.push(html("h2", {}, "Other protocols"), sortableTable(`${label} under other protocols`,
      [wordColumn("protocol"), wordColumn("arm"), wordColumn("data"), numberColumn("average"),
        chartColumn(`95% interval\n(${axisText(axis)})`), numberColumn("scores")],
      several.map((row) => [{ content: row.protocol }, { content: row.arm },
        { content: dataTitle(row) },
        { content: fixed(row.average[ALL]?.[0]), value: row.average[ALL]?.[0] },
        { content: row.average[ALL] ? intervalChart(axis, method(row).family, row.average[ALL])
          : MISSING, text: "" },
        { content: `${row.n}/${row.expected}`, value: row.n / Math.max(1, row.expected) }])),
      ...unique(several.map((row) => row.settings)).map((number) =>
        settingsList(several.find((row) => row.settings === number))));
  }
  return parts;
}
const dataTitle = (row) => (row.source === suiteOf(row).name ? `Suite ${row.source}`
  : `Suite ${suiteOf(row).name} (${row.source} data)`);
const rowTitle = (row) => dataTitle(row) + (row.protocol === "default" ? ""
    : `, protocol ${row.protocol}`)
  + (row.budget === MISSING ? "" : `, ${row.budget}`);
function settingsList(row) {
  if (row.settings === null) return null;
  const values = Object.entries(data.settings[row.settings]);
  return html("details", {}, html("summary", {}, `Settings: ${row.protocol}, ${suiteOf(row).name}`),
    sortableTable(`Settings, ${rowTitle(row)}${suiteOf(row).local ? ", local" : ""}`, [wordColumn("setting"), wordColumn("value")],
      values.map(([name, value]) =>
      [{ content: name }, { content: typeof value === "string" ? value : JSON.stringify(value),
        long: true }])));
}
function synsetLinks(row) {
  if (row.protocol !== "default") return [];
  const numbers = data.synsets.flatMap((synset, number) =>
    (synset.suite === row.suite && synset.label === method(row).label ? [number] : []));
  return numbers.length ? [html("p", {}, "Synsets: ", numbers.map((number, i) => [i ? ", " : "",
    html("a", { href: `#synsets/${number}` },
      data.datasets[data.synsets[number].dataset].name)]).flat())] : [];
}

function datasetsPage() {
  return [html("h1", {}, "Datasets"), html("p", { class: "soft" },
    "Facts, returns beside those of D4RL, state moments and scores."),
    unique(data.datasets.map((dataset) => dataset.source)).map((source) => [html("h2", {}, source),
      html("ul", { class: "cards" }, data.datasets.filter((dataset) =>
        dataset.source === source).map((dataset) =>
        html("li", {}, datasetLink(dataset), html("div", { class: "soft" },
          breakable(dataset.id)),
          dataset.here.transitions ? [`${grouped(dataset.here.transitions)} transitions`,
            `mean normalized return ${fixed(dataset.here.normalized_return_mean)}`].map((fact) =>
            html("div", { class: "soft" }, fact)) : null)))]).flat()].flat();
}

const FACTS = [["transitions", "transitions", 0], ["episodes", "complete episodes", 0],
  ["return_mean", "mean return", 1],
  ["return_std", "standard deviation of returns", 1], ["return_min", "lowest return", 1],
    ["return_max", "highest return", 1],
  ["normalized_return_mean", "mean normalized return", 1]];
function datasetPage(id) {
  const number = data.datasets.findIndex((dataset) => dataset.id === id);
  if (number < 0) return notFound("dataset", id);
  const dataset = data.datasets[number], { here, d4rl } = dataset;
  const parts = [html("h1", {}, dataset.name), html("p", {}, html("code", {}, dataset.id)),
    dataset.recipe ? html("p", {}, `Recipe: ${dataset.recipe}.`) : null,
    dataset.license ? html("p", { class: "soft" }, `License: ${dataset.license}`) : null];
  const sides = [["this dataset", here], ["D4RL", d4rl]].filter(([, side]) =>
    Object.keys(side).length);
  const facts = FACTS.filter(([key]) => here[key] !== undefined || d4rl[key] !== undefined);
  if (facts.length) {
    parts.push(html("h2", {}, "Facts beside D4RL's"), sortableTable("Facts",
      [wordColumn("fact"), ...sides.map(([name]) => numberColumn(name))],
      facts.map(([key, name, digits]) => [{ content: name, long: true },
        ...sides.map(([, side]) => ({ content: grouped(side[key], digits), value: side[key] }))])));
    if (here.transitions === undefined) {
      parts.push(html("p", { class: "note" },
        "This dataset is not included in the package, so only D4RL's facts are shown."));
    }
  }
  // A method without a teacher adds no file if another method uses the same dataset file.
  const files = dataset.files.filter((file) => file.teacher || !dataset.files.some((other) =>
    other.teacher && other.checksum === file.checksum));
  if (files.length) {
    parts.push(html("h3", {}, "Files behind the results"), sortableTable("Files", ["transitions",
      "SHA-256", "teacher", "SHA-256 of the teacher"].map(wordColumn),
      files.map((file) => [{ content: file.size ? file.size.toLocaleString("en") : MISSING,
        value: file.size },
        { content: file.checksum }, { content: file.teacher || MISSING },
          { content: file.teacher_checksum || MISSING }])));
  }
  const scored = data.rows.filter((row) => row.protocol === "default").flatMap((row) =>
    row.cells.filter((cell) => cell.dataset === number && cell.scores.length).map((cell) => [row,
      cell]));
  if (scored.length) {
    const axis = scoreAxis(scored.flatMap(([, cell]) => cell.scores));
    parts.push(html("h2", {}, "Scores"), familyLegend(), sortableTable(`Scores on ${dataset.name}`,
      [wordColumn("method"), numberColumn("mean ± std over seeds"),
        chartColumn(`every seed\n(${axisText(axis)})`), wordColumn("suite and budget")],
      scored.map(([row, cell]) => [{ content: [methodLink(method(row).label),
        localBadge(suiteOf(row))], text: method(row).label, long: true },
        { content: meanText(cell.scores), value: mean(cell.scores) },
        { content: seedChart(axis, method(row).family, cell), text: "" },
          { content: `${suiteOf(row).name}, ${row.budget}` }]), { column: 1 }));
  }
  if (dataset.states) {
    parts.push(html("h2", {}, "States"), html("figure", { class: "picture" }, statePicture(dataset,
      [], 0, 1),
      html("figcaption", {}, "States of the dataset in its two principal components.")));
  }
  const moments = here.observation_mean ?? d4rl.observation_mean;
  if (moments) {
    parts.push(html("h2", {}, "State moments"), html("p", { class: "soft" },
      here.observation_mean && d4rl.observation_mean
      ? "Mean and standard deviation of every state dimension. The chart shows mean ± one standard deviation in D4RL's units: circles for this dataset, squares for D4RL (−1 to 1)."
      : "Mean and standard deviation of every state dimension."), momentsTable(here, d4rl,
        moments.length));
  }
  return parts;
}
function momentsTable(here, d4rl, size) {
  const both = here.observation_mean && d4rl.observation_mean;
  const axis = { low: -4, high: 4, ticks: [-4, -2, 0, 2, 4], x: (v, width) => 8 + (Math.max(-4,
    Math.min(4, v)) + 4) / 8 * (width - 16) };
  const columns = [numberColumn("dimension"), ...[["this dataset", here], ["D4RL",
    d4rl]].flatMap(([name, side]) =>
    (side.observation_mean ? [numberColumn(`mean\n${name}`), numberColumn(`std\n${name}`)] : []))];
  if (both) columns.push(chartColumn("in D4RL's units\n(−4 to 4 by 2)"));
  const line = (low, high, y, family) => svg("g", { class: familyClass(family) },
    svg("path", { class: "interval", d: `M${axis.x(low, WIDTH)} ${y}H${axis.x(high, WIDTH)}` }),
      symbol(family, axis.x((low + high) / 2, WIDTH), y, 4));
  const rows = Array.from({ length: size }, (_, i) => {
    const cells = [{ content: String(i), value: i }];
    for (const side of [here, d4rl]) {
      if (!side.observation_mean) continue;
      for (const key of ["observation_mean",
        "observation_std"]) cells.push({ content: fixed(side[key][i], 3), value: side[key][i] });
    }
    if (both) {
      const center = (here.observation_mean[i] - d4rl.observation_mean[i]) / d4rl.observation_std[i];
      const spread = here.observation_std[i] / d4rl.observation_std[i];
      cells.push({ content: strip(axis,
        `mean ${fixed(center, 2)}, standard deviation ${fixed(spread, 2)} in D4RL's units`,
        line(center - spread, center + spread, 8, "distillation"), line(-1, 1, 19, "whole data")),
          text: "" });
    }
    return cells;
  });
  return sortableTable("State moments", columns, rows);
}

let action = 0;
function synsetsPage(address) {
  const title = html("h1", {}, "Synsets");
  if (!data.synsets.length) {
    return [title, html("p", {},
      "These results contain scores only. Results of your own runs include their synsets;"
      + " this command shows them together with the published results:"), html("p", {},
      html("code", {}, "obdbench leaderboard --html --overlay results"))];
  }
  const chosen = Math.max(0, Math.min(data.synsets.length - 1, Math.trunc(Number(address)) || 0));
  const synset = data.synsets[chosen], dataset = data.datasets[synset.dataset],
    suite = data.suites[synset.suite];
  action = Math.min(action, synset.actions - 1);
  const pairs = decode(synset.points, 2 + synset.actions);
  const names = Object.fromEntries(data.synsets.map((one, number) => [number,
    `${data.datasets[one.dataset].id}: ${one.label} (${data.suites[one.suite].name})`]));
  const bound = Math.max(1, ...pairs.map((pair) => Math.abs(pair[2 + action])));
  const outside = pairs.flatMap((pair) => pair.slice(2)).filter((value) =>
    Math.abs(value) > 1).length / (pairs.length * synset.actions);
  const figure = html("div");
  const again = (value) => { action = Number(value); show(false, "Distilled action"); };
  const select1 = select("Synset", Object.keys(names), String(chosen),
    (value) => { location.hash = `#synsets/${value}`; }, names);
  const select2 = select("Distilled action", Array.from({ length: synset.actions }, (_, i) =>
    String(i)), String(action), again,
    Object.fromEntries(Array.from({ length: synset.actions }, (_, i) => [i,
      `dimension ${i + 1}`])));
  figure.append(html("figure", { class: "picture" }, statePicture(synset.over_data ? dataset : {},
    pairs, action, bound),
    html("div", { class: "ramp" }, fixed(-bound, 2), svg("svg", { viewBox: "0 0 64 4",
      preserveAspectRatio: "none", "aria-hidden": "true" },
      Array.from({ length: 64 }, (_, i) => svg("rect", { x: i, y: 0, width: 1.6, height: 4,
        fill: rampColor(i / 63) }))), fixed(bound, 2)),
    html("figcaption", {}, synset.over_data
      ? "Distilled states (circles) over states of the data (dots), in the two principal components of the data. "
      : "Distilled states in their own two principal components; the data are not included in the package. ",
      `The color of a circle is dimension ${action + 1} of its distilled action.`)));
  return [title, html("div", { class: "filters", role: "group",
    "aria-label": "Choice of the synset" }, select1, select2),
    html("p", {}, methodLink(synset.label), " on ", datasetLink(dataset),
      `: seed ${synset.seed}, step ${synset.step}, ${synset.pairs} pairs; ${Math.round(100 * outside)}% of the action values lie outside [−1, 1].`,
      localBadge(suite)),
    data.n_synsets > data.synsets.length ? html("p", { class: "note" },
      `${data.synsets.length} of ${data.n_synsets} synsets are included.`) : null, figure,
    frameStrip(synset.frames ?? [])];
}
/** Rendered states, from low to high values of the first component. */
function frameStrip(frames) {
  return frames.length ? html("figure", { class: "frames" },
    html("div", {}, frames.map((frame, i) => html("img", { src: `data:image/jpeg;base64,${frame}`,
      alt: `Distilled state ${i + 1} of ${frames.length}`, width: 96, height: 96 }))),
    html("figcaption", {},
      "Some distilled states in the simulator, from low to high values of component 1.")) : null;
}

function tablesPage(address) {
  const chosen = Math.max(0, Math.min(data.suites.length - 1, Math.trunc(Number(address)) || 0)),
    suite = data.suites[chosen];
  const names = Object.fromEntries(data.suites.map((one, i) => [i, one.local ? `${one.name} (local)`
    : one.name]));
  return [html("h1", {}, `All tables: ${names[chosen]}`),
    html("div", { class: "filters", role: "group", "aria-label": "Choice of the suite" },
      select("Suite", Object.keys(names), String(chosen),
        (value) => { location.hash = `#tables/${value}`; }, names)),
    html("details", {}, html("summary", {}, "How the results were measured"), html("ul",
      { class: "soft" }, suite.facts.map((fact) => html("li", {}, fact)))),
    suite.tables.map((table) => [html("h2", {}, table.title),
      sortableTable(table.title, table.columns.map((name, i) => (i < table.text_columns
        ? wordColumn(name) : numberColumn(name))),
        table.rows.map((row) => row.map(([text, value, file, bold], i) => ({
          content: file ? fileLink(suite.links, file, text) : bold ? html("strong", {}, text)
            : text,
          text, value, long: i < table.text_columns && text.length > 30 })))),
      table.notes.map((note) => html("p", { class: "note" }, note))].flat()).flat()].flat();
}
const notFound = (kind, name) => [html("h1", {}, "Not found"), html("p", {},
  `There is no ${kind} ${name}. `, html("a", { href: "#leaderboard" }, "Leaderboard"))];

// ---- Addresses -----------------------------------------------------------------------------------

const PAGES = { leaderboard: leaderboardPage, method: methodPage, datasets: datasetsPage,
  dataset: datasetPage,
  synsets: synsetsPage, tables: tablesPage };
const SECTION = { method: "leaderboard", dataset: "datasets" };
function show(moveFocus, focusLabel) {
  const [name, ...rest] = location.hash.slice(1).split("/");
  if (name === "content") return main.focus();
  const page = Object.hasOwn(PAGES, name) ? name : "leaderboard";
  let address = rest.join("/");
  try { address = decodeURIComponent(address); } catch { address = ""; }
  main.replaceChildren(...PAGES[page](address).flat().filter((part) => part !== null));
  const heading = main.querySelector("h1");
  document.title = `${heading.textContent} · obdbench`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${SECTION[page] ?? page}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (moveFocus) {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    scrollTo(0, 0);
  } else if (focusLabel) {
    [...main.querySelectorAll("label")].find((label) =>
      label.firstChild.textContent === focusLabel)?.querySelector("select").focus();
  }
}
if (data) {
  addEventListener("hashchange", () => show(true));
  show(false);
}
document.body.dataset.ready = "true";
