"use strict";
// The explorer: reads data/index.js, then one file a DRG. All text from the data becomes text nodes, never markup.
(() => {
  const page = document.documentElement;
  const at = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const LEVELS = [50, 80, 90];
  const METHODS = {
    model: "by the model, from this pair’s own history",
    hierarchy: "from the levels of the hospital and the DRG, because this pair has no recent value of its own",
  };

  // ---- light and dark: the same choice as on the rest of the site, before anything is painted
  const stored = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
  const keep = (key, value) => { try { localStorage.setItem(key, value); } catch { /* a page from disk may not store */ } };
  const prefers = matchMedia("(prefers-color-scheme: dark)");
  function setTheme(mode) { page.dataset.theme = mode === "light" || mode === "dark" ? mode : prefers.matches ? "dark" : "light"; }
  setTheme(stored("mode"));

  // ---- building elements
  function build(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) if (value != null && value !== false) element.setAttribute(name, value === true ? "" : value);
    element.append(...children.flat().filter((c) => c != null));
    return element;
  }
  const make = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);
  const draw = (tag, attributes, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

  // ---- numbers as people say them (as in drg_lib.reporting.style)
  const known = (value) => value != null && Number.isFinite(value);
  function shorten(value) {
    for (const [unit, letter] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
      if (value < 0.9995 * unit) continue;
      const scaled = value / unit;
      return (scaled >= 99.95 ? scaled.toFixed(0) : scaled.toFixed(1).replace(/\.0$/, "")) + letter;
    }
    return value < 0.005 ? "0" : value >= 9.995 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(2);
  }
  const signed = (value, unit, text) => (value < 0 && text !== "0" ? "−" : "") + unit + text;
  function brief(series, value) {
    if (!known(value)) return "–";
    if (series.kind === "ratio") return value.toFixed(value >= 9.95 ? 1 : 2);
    return signed(value, series.kind === "money" ? "$" : "", shorten(Math.abs(value)));
  }
  function full(series, value) {
    if (!known(value)) return "–";
    if (series.kind === "ratio") return value.toFixed(2);
    const size = Math.abs(value);
    return signed(value, series.kind === "money" ? "$" : "", size.toLocaleString("en-US", { maximumFractionDigits: size >= 100 || series.kind === "count" ? 0 : 2 }));
  }
  const percent = (share) => !known(share) ? "–" : `${share < 0 ? "−" : ""}${(Math.abs(share) * 100).toFixed(Math.abs(share) < 0.0995 ? 1 : 0)} %`;
  const change = (share) => !known(share) ? "–" : (share > 0 ? "+" : "") + percent(share);
  const lower = (text) => text[0].toLowerCase() + text.slice(1);
  function median(values) {
    const sorted = values.filter(known).sort((a, b) => a - b), n = sorted.length;
    return n ? (sorted[(n - 1) >> 1] + sorted[n >> 1]) / 2 : null;
  }
  function quantile(sorted, share) {
    const place = (sorted.length - 1) * share, under = Math.floor(place);
    return sorted[under] + (sorted[Math.min(under + 1, sorted.length - 1)] - sorted[under]) * (place - under);
  }
  const plural = (n, word) => `${n.toLocaleString("en-US")} ${word}${n === 1 ? "" : "s"}`;

  // ---- data: scripts that call explorerData(name, content), so that a page opened from disk can read them too
  let sortName, hospitalWords, drgWords; // by number, for sorting and searching
  let index, shard, all, state, sort = { key: null, down: false }, pageNumber = 0, rows = [];
  const loaded = new Map(), waiting = new Map();
  window.explorerData = (name, content) => {
    if (name === "index") { index = content; start(); } else waiting.get(name)?.(content);
  };
  function load(name) {
    if (!loaded.has(name)) {
      loaded.set(name, new Promise((resolve, reject) => {
        const script = make("script", { src: `data/${name}.js?${index.build}` });
        waiting.set(name, (content) => content.build === index.build ? resolve(content) : reject(new Error("the data were built anew meanwhile. Remedy: reload this page")));
        script.onerror = () => { loaded.delete(name); reject(new Error(`data/${name}.js could not be read. Remedy: check that the whole folder was copied`)); };
        document.head.append(script);
      }));
    }
    return loaded.get(name);
  }

  // ---- the choice is in the address
  function readAddress() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const find = (list, name, otherwise, word) => {
      const wanted = asked.get(name);
      if (wanted == null) return otherwise;
      const found = list.indexOf(wanted);
      if (found < 0) trouble.push(`There is no ${word} “${wanted}” in this data.`);
      return found < 0 ? otherwise : found;
    };
    const trouble = [];
    const statistics = [...new Set(index.series.map((s) => s.statistic).filter(Boolean))];
    const own = index.targets.map((t) => index.series[t.series].statistic).find(Boolean) || statistics[0] || null;
    const target = Math.max(0, index.targets.findIndex((t) => t.name === asked.get("forecast")));
    return {
      hospital: find(index.hospitals.ids, "hospital", index.start[0], "hospital"),
      drg: find(index.drgs.ids, "drg", index.start[1], "DRG"),
      statistic: statistics.includes(asked.get("statistic")) ? asked.get("statistic") : own,
      statistics, target, trouble,
      by: index.series.findIndex((s) => s.key === asked.get("by")),
      year: asked.has("year") ? Number(asked.get("year")) : null,
      scope: ["hospital", "all"].includes(asked.get("rows")) ? asked.get("rows") : "drg",
    };
  }
  function address(changes) { // of the page's address, not of what is shown: a second choice may come before the first is shown
    const now = { ...readAddress(), ...changes }, parts = new URLSearchParams();
    parts.set("hospital", index.hospitals.ids[now.hospital]);
    parts.set("drg", index.drgs.ids[now.drg]);
    if (now.statistics.length > 1 && now.statistic) parts.set("statistic", now.statistic);
    if (now.by >= 0) parts.set("by", index.series[now.by].key);
    if (now.year) parts.set("year", now.year);
    if (now.scope !== "drg") parts.set("rows", now.scope);
    if (now.target) parts.set("forecast", index.targets[now.target].name);
    return "#" + parts;
  }
  const go = (changes) => { location.hash = address(changes); };

  // ---- names
  const hospitalName = (h) => index.hospitals.names[h] || `Hospital ${index.hospitals.ids[h]}`;
  const drgName = (d) => `DRG ${index.drgs.ids[d]}${index.drgs.names[d] ? " " + index.drgs.names[d] : ""}`;
  const plain = (text) => text.normalize("NFD").replace(/[\u0300-\u036f]/g, "").toLowerCase();
  const wordsOf = (text) => plain(text).split(/[^\p{L}\p{N}]+/u).filter(Boolean);

  // ---- choosing by typing (the combobox with a list, ARIA Authoring Practices)
  function combobox(input, list, options, current, choose, label) {
    const LIMIT = 80;
    let shown = [], active = -1, typed = false;
    function open() {
      const words = typed ? wordsOf(input.value) : [];
      // an id itself first, then whole words, beginnings of words, parts of words; what lacks the other choice comes last
      const rank = (o) => {
        const worst = Math.max(0, ...words.map((w) => (o.search.includes(` ${w} `) ? 0 : o.search.includes(` ${w}`) ? 1 : 2)));
        return (o.muted ? 100 : 0) + (words.includes(o.id) ? -1 : 2 * worst + (words.length && o.name.startsWith(words[0]) ? 0 : 1));
      };
      const ranked = options().filter((o) => words.every((w) => o.search.includes(w))).map((o, i) => [rank(o), i, o]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, , o]) => o);
      shown = ranked.slice(0, LIMIT);
      if (!typed) {
        const here = ranked.findIndex((o) => o.value === current());
        if (here >= LIMIT) shown = [ranked[here], ...ranked.slice(0, LIMIT - 1)];
      }
      list.replaceChildren(...shown.map((o, i) => make("li", { role: "option", id: `${list.id}-${i}`, "aria-selected": "false", class: o.muted ? "muted" : null },
        o.label, make("span", { class: "note" }, o.note))));
      const more = ranked.length - shown.length;
      if (more > 0 || !ranked.length) list.append(make("li", { role: "option", "aria-disabled": "true", "aria-selected": "false", class: "more" }, more > 0 ? `${more} more: type to find them` : "Nothing matches"));
      list.hidden = false;
      input.setAttribute("aria-expanded", "true");
      mark(shown.length ? Math.max(0, typed ? 0 : shown.findIndex((o) => o.value === current())) : -1);
    }
    function close() {
      list.hidden = true;
      active = -1;
      input.setAttribute("aria-expanded", "false");
      input.removeAttribute("aria-activedescendant");
    }
    function mark(next) {
      list.children[active]?.setAttribute("aria-selected", "false");
      active = next;
      if (active < 0) return input.removeAttribute("aria-activedescendant");
      const item = list.children[active];
      item.setAttribute("aria-selected", "true");
      input.setAttribute("aria-activedescendant", item.id);
      if (item.offsetTop < list.scrollTop) list.scrollTop = item.offsetTop;
      else if (item.offsetTop + item.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = item.offsetTop + item.offsetHeight - list.clientHeight;
    }
    function take(i) {
      const option = shown[i];
      typed = false;
      close();
      input.value = option.label;
      if (option.value !== current()) choose(option.value);
    }
    const reset = () => { typed = false; close(); input.value = label(current()); };
    input.addEventListener("input", () => { typed = true; open(); });
    input.addEventListener("focus", () => input.select());
    input.addEventListener("click", () => { if (list.hidden) open(); });
    input.addEventListener("blur", reset);
    list.addEventListener("pointerdown", (event) => event.preventDefault()); // the input keeps the focus
    list.addEventListener("click", (event) => {
      const item = event.target.closest("li");
      const i = [...list.children].indexOf(item);
      if (i >= 0 && i < shown.length) take(i);
    });
    input.addEventListener("keydown", (event) => {
      const last = shown.length - 1;
      const steps = { ArrowDown: active < last ? active + 1 : 0, ArrowUp: active > 0 ? active - 1 : last, PageDown: Math.min(active + 8, last), PageUp: Math.max(active - 8, 0) };
      if (event.key in steps) {
        event.preventDefault();
        if (list.hidden) open();
        else if (last >= 0) mark(steps[event.key]);
      } else if (event.key === "Enter") {
        event.preventDefault();
        if (!list.hidden && active >= 0) take(active);
      } else if (event.key === "Escape" && (typed || !list.hidden)) { event.preventDefault(); reset(); input.select(); }
    });
    return { refresh: () => (typed ? open() : reset()) }; // what someone is typing stays
  }

  // ---- a pair
  function pairOf(hospital) {
    const row = shard.hospitals.indexOf(hospital);
    if (row < 0) return null;
    const forecasts = index.targets.map((target) => {
      const f = shard.forecast[target.name];
      if (!known(f.prediction[row])) return null;
      return { target, series: index.series[target.series], value: f.prediction[row], last: f.last_value[row], lastYear: f.last_year[row], method: index.methods[f.method[row]], model: f.model[row] == null ? null : Object.keys(index.models)[f.model[row]],
        bounds: Object.fromEntries(LEVELS.map((l) => [l, [f[`lower_${l}`][row], f[`upper_${l}`][row]]])) };
    });
    return { row, seen: index.years.map((_, y) => (shard.seen[row] >> y) & 1), values: index.series.map((_, s) => shard.values[s][row]), forecasts };
  }
  const shownSeries = (group) => index.series.map((s, i) => ({ ...s, i })).filter((s) => s.group === group && (!s.statistic || s.statistic === state.statistic));
  const discharges = () => index.series.findIndex((s) => s.group === "discharges" || s.key === "sum_discharges");
  const range = (f, level) => known(f.bounds[level][0]) ? `${brief(f.series, f.bounds[level][0])}–${brief(f.series, f.bounds[level][1])}` : null;

  function movement(series, values, name) {
    const there = values.map((v, y) => [index.years[y], v]).filter(([, v]) => known(v));
    if (!there.length) return null;
    const [y0, v0] = there[0], [y1, v1] = there[there.length - 1];
    if (there.length === 1) return { text: `${name} was ${brief(series, v0)} in ${y0}`, share: null, years: [y0, y0] };
    const share = v0 > 0 && v1 > 0 ? v1 / v0 - 1 : null;
    if (share == null) return { text: `${name} went from ${brief(series, v0)} in ${y0} to ${brief(series, v1)} in ${y1}`, share, years: [y0, y1] };
    const verb = Math.abs(share) < 0.005 ? "stayed level" : share > 0 ? `rose ${percent(share)}` : `fell ${percent(-share)}`;
    return { text: `${name} ${verb} from ${y0} to ${y1}`, verb, share, years: [y0, y1] };
  }
  function expectation(f) {
    const interval = range(f, 80);
    return `${brief(f.series, f.value)} expected in ${f.target.year}${interval ? ` (80 %: ${interval})` : ""}`;
  }
  function described(series, values, f) {
    const history = index.years.map((y, i) => known(values[i]) ? `${y} ${full(series, values[i])}` : null).filter(Boolean).join(", ");
    const future = f ? `; expected in ${f.target.year} ${full(series, f.value)}${known(f.bounds[80][0]) ? `, 80 % between ${full(series, f.bounds[80][0])} and ${full(series, f.bounds[80][1])}` : ""}` : "";
    return `${series.label}: ${history || "no value"}${future}.`;
  }

  // ---- pictures
  const paint = (series) => `var(--${series.color.replaceAll("_", "-")})`;
  const ink = (series) => `var(--${series.color.replaceAll("_", "-")}-text)`;
  function marker(shape, x, y, size, attributes) {
    if (shape === "s") return draw("rect", { x: x - size, y: y - size, width: 2 * size, height: 2 * size, ...attributes });
    if (shape === "D") return draw("path", { d: `M${x},${y - size * 1.3}L${x + size * 1.3},${y}L${x},${y + size * 1.3}L${x - size * 1.3},${y}Z`, ...attributes });
    if (shape === "^") return draw("path", { d: `M${x},${y - size * 1.2}L${x + size * 1.2},${y + size}L${x - size * 1.2},${y + size}Z`, ...attributes });
    return draw("circle", { cx: x, cy: y, r: size, ...attributes });
  }
  function ticks(low, high, count) {
    const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
    const made = [];
    for (let i = Math.floor(low / step + 1e-9); i * step < high + step * 0.999; i++) made.push(Number((i * step).toPrecision(12)));
    return made;
  }
  const tickText = (series, value) => series.kind === "ratio" ? String(value) : signed(value, series.kind === "money" ? "$" : "", (() => {
    const size = Math.abs(value);
    for (const [unit, letter] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) if (size >= unit) return `${Number((size / unit).toPrecision(4))}${letter}`;
    return String(size);
  })());

  function lineChart(width, lines, height) {
    const futures = lines.map((l) => l.forecast).filter(Boolean);
    const futureYears = [...new Set(futures.map((f) => f.target.year))];
    const years = [...new Set([...index.years, ...futureYears])].sort((a, b) => a - b);
    const left = 54, right = futures.length ? 62 : 34, top = 30, bottom = 40, series = lines[0].series;
    const numbers = lines.flatMap((l) => [...l.values, ...(l.middle || []), ...(l.forecast ? [l.forecast.value, ...l.forecast.bounds[90]] : [])]).filter(known);
    const scale = ticks(Math.min(0, ...numbers), Math.max(0, ...numbers), 4);
    const y0 = scale[0], y1 = scale[scale.length - 1];
    const span = years[years.length - 1] - years[0] || 1;
    const x = (year) => left + 26 + (year - years[0]) / span * (width - left - right - 26);
    const y = (value) => top + (y1 - value) / (y1 - y0 || 1) * (height - top - bottom);
    const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
    for (const value of scale) {
      svg.append(draw("line", { x1: left, x2: width - 8, y1: y(value), y2: y(value), class: value === 0 ? "axis" : "grid" }),
        draw("text", { x: left - 6, y: y(value) + 4, class: "tick", "text-anchor": "end" }, tickText(series, value)));
    }
    let free = -Infinity;
    for (const year of [...years].reverse()) { // from the right, so that the last years keep their labels
      const room = -x(year);
      svg.append(draw("line", { x1: x(year), x2: x(year), y1: height - bottom, y2: height - bottom + 4, class: "axis" }));
      if (room - free < 36) continue;
      free = room;
      svg.append(draw("text", { x: x(year), y: height - bottom + 17, class: "tick", "text-anchor": "middle" }, String(year)));
      if (futureYears.includes(year)) svg.append(draw("text", { x: x(year), y: height - bottom + 31, class: "tick", "text-anchor": "middle" }, "expected"));
    }
    svg.append(draw("text", { x: left - 44, y: 11, class: "tick" }, series.unit));
    let written = -Infinity; // where the last forecast's label stands
    lines.forEach((line, number) => {
      const tone = paint(line.series);
      const there = line.values.map((v, i) => [i, v]).filter(([, v]) => known(v));
      const middle = (line.middle || []).map((v, i) => [i, v]).filter(([, v]) => known(v));
      if (middle.length > 1) svg.append(draw("polyline", { points: middle.map(([i, v]) => `${x(index.years[i])},${y(v)}`).join(" "), class: "thin", stroke: tone }));
      for (let n = 1; n < there.length; n++) {
        const [a, va] = there[n - 1], [b, vb] = there[n];
        if (b - a > 1) continue; // the source has a year between, this pair does not: a gap
        svg.append(draw("line", { x1: x(index.years[a]), y1: y(va), x2: x(index.years[b]), y2: y(vb), stroke: tone, "stroke-width": 2.5, "stroke-dasharray": index.years[b] - index.years[a] > 1 ? "7 4" : null }));
      }
      const label = (px, py, text, anchor, weight) => svg.append(draw("text", { x: px, y: py, class: "value", fill: ink(line.series), "text-anchor": anchor, "font-weight": weight }, text));
      const f = line.forecast;
      if (f) {
        const px = x(f.target.year) + (futures.length > 1 ? (number - (futures.length - 1) / 2) * 12 : 0);
        if (there.length && known(f.last) && f.method === "model") { // a forecast from elsewhere does not go on from this line
          const from = there.filter(([i]) => index.years[i] === f.lastYear)[0] || there[there.length - 1];
          svg.append(draw("line", { x1: x(index.years[from[0]]), y1: y(from[1]), x2: px, y2: y(f.value), stroke: tone, "stroke-width": 1.5, "stroke-dasharray": "2 4" }));
        }
        for (const level of [...LEVELS].reverse()) {
          const [a, b] = f.bounds[level];
          if (known(a)) svg.append(draw("rect", { x: px - 5, y: y(b), width: 10, height: Math.max(1, y(a) - y(b)), fill: tone, opacity: 0.3 }));
        }
        svg.append(draw("g", {}, draw("title", {}, `${f.target.year}: ${full(f.series, f.value)} expected`), marker(line.series.marker, px, y(f.value), 4.5, { fill: "var(--page)", stroke: tone, "stroke-width": 2.5 })));
        let py = y(f.value) + 4;
        if (Math.abs(py - written) < 15) py = written + (py < written ? -15 : 15);
        written = py;
        label(x(f.target.year) + 15, py, brief(f.series, f.value), "start", 700);
      }
      const count = discharges();
      there.forEach(([i, value], n) => {
        const stays = count >= 0 && known(line.counts?.[i]) ? `, ${plural(line.counts[i], "discharge")}` : "";
        svg.append(draw("g", {}, draw("title", {}, `${index.years[i]}: ${full(line.series, value)}${stays}`), marker(line.series.marker, x(index.years[i]), y(value), 4, { fill: tone, stroke: "var(--page)", "stroke-width": 1 })));
        if (n === 0 || n === there.length - 1) {
          const px = x(index.years[i]), py = y(value), above = number && known(lines[0].values[i]) ? py - y(lines[0].values[i]) : Infinity;
          if (Math.abs(above) > 22 || (number && above < 0)) label(px, py - 10, brief(line.series, value), "middle", 600);
          else if (py + 20 < height - bottom) label(px, py + 18, brief(line.series, value), "middle", 600); // under its point, away from the first line's
          else label(px + 8, py + 4, brief(line.series, value), "start", 600);
        }
      });
    });
    return svg;
  }

  function legend(lines) {
    const sample = (shape, line) => {
      const svg = draw("svg", { width: 26, height: 12, "aria-hidden": "true" });
      svg.append(draw("line", { x1: 0, x2: 26, y1: 6, y2: 6, stroke: paint(line), "stroke-width": shape ? 2.5 : 1 }));
      if (shape) svg.append(marker(shape, 13, 6, 4, { fill: paint(line) }));
      return svg;
    };
    const items = lines.map((l) => make("li", {}, sample(l.series.marker, l.series), l.series.short));
    if (lines.some((l) => l.middle?.some(known))) items.push(make("li", {}, sample(null, { color: lines[0].series.color }), "middle hospital"));
    return make("ul", { class: "legend" }, ...items);
  }

  function card(id, title, lines, wide) {
    const holder = make("div", { class: "chart" });
    const element = make("section", { class: wide ? "card wide" : "card", "aria-labelledby": `${id}-title` }, make("h3", { id: `${id}-title` }, title), legend(lines), holder);
    const text = lines.map((l) => described(l.series, l.values, l.forecast)).join(" ");
    pictures.push(() => {
      const width = Math.floor(holder.clientWidth);
      if (width < 50) return;
      const svg = lineChart(width, lines, Math.round(Math.min(300, Math.max(220, width * 0.55))));
      build(svg, { role: "img", "aria-label": `${title}. ${text}` }, []);
      holder.replaceChildren(svg);
    });
    return element;
  }

  function rangeChart(width, f) {
    const height = 64, pad = 34, series = f.series, bounds = f.bounds[90];
    const numbers = [f.value, ...bounds, f.last].filter(known);
    const low = Math.min(...numbers), high = Math.max(...numbers);
    const x = (v) => pad + (v - low) / (high - low || 1) * (width - 2 * pad);
    const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `${series.label}: ${full(series, f.value)} expected in ${f.target.year}${LEVELS.map((l) => known(f.bounds[l][0]) ? `; ${l} % between ${full(series, f.bounds[l][0])} and ${full(series, f.bounds[l][1])}` : "").join("")}.` });
    svg.append(draw("line", { x1: pad, x2: width - pad, y1: 32, y2: 32, class: "axis" }));
    for (const level of [...LEVELS].reverse()) {
      const [a, b] = f.bounds[level], half = { 90: 5, 80: 8, 50: 11 }[level];
      if (known(a)) svg.append(draw("rect", { x: x(a), y: 32 - half, width: Math.max(1, x(b) - x(a)), height: 2 * half, fill: paint(series), opacity: 0.3 }));
    }
    if (known(f.last)) svg.append(draw("line", { x1: x(f.last), x2: x(f.last), y1: 19, y2: 45, class: "last" }),
      draw("text", { x: Math.min(Math.max(x(f.last), 42), width - 42), y: 59, class: "tick", "text-anchor": "middle" }, `${f.lastYear}: ${brief(series, f.last)}`));
    svg.append(marker(series.marker, x(f.value), 32, 5, { fill: "var(--page)", stroke: paint(series), "stroke-width": 2.5 }),
      draw("text", { x: Math.min(Math.max(x(f.value), 24), width - 24), y: 13, class: "value", fill: ink(series), "text-anchor": "middle", "font-weight": 700 }, brief(series, f.value)));
    return svg;
  }

  // ---- one year's hospitals as a strip
  function strip(width, points, own, middle, quarters, series, choose) {
    const pad = 30, size = width < 500 ? 3 : 3.6, step = 2 * size + 0.6;
    const low = Math.min(...points.map((p) => p.value)), high = Math.max(...points.map((p) => p.value));
    const scale = ticks(low >= 0 ? Math.min(low, high * 0.999) : low, high, width < 500 ? 3 : 6);
    const a = scale[0], b = scale[scale.length - 1];
    const x = (v) => pad + (v - a) / (b - a || 1) * (width - 2 * pad);
    const piles = new Map();
    for (const p of [...points].sort((p, q) => p.value - q.value)) {
      const pile = Math.round(x(p.value) / step);
      p.level = piles.get(pile) || 0;
      piles.set(pile, p.level + 1);
      p.x = x(p.value);
    }
    const tallest = Math.max(...piles.values()), gap = Math.min(step, 150 / Math.max(tallest, 1));
    const dots = Math.max(36, gap * tallest + 8), top = 34, base = top + dots, height = base + 40;
    const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
    svg.append(draw("rect", { x: x(quarters[0]), y: top, width: Math.max(1, x(quarters[1]) - x(quarters[0])), height: dots, class: "half" }));
    for (const value of scale) svg.append(draw("line", { x1: x(value), x2: x(value), y1: base, y2: base + 4, class: "axis" }),
      draw("text", { x: x(value), y: base + 17, class: "tick", "text-anchor": "middle" }, tickText(series, value)));
    svg.append(draw("line", { x1: pad, x2: width - pad, y1: base, y2: base, class: "axis" }), draw("text", { x: width / 2, y: base + 33, class: "tick", "text-anchor": "middle" }, series.unit),
      draw("line", { x1: x(middle), x2: x(middle), y1: top - 6, y2: base, class: "middle" }));
    for (const p of points) if (p.hospital !== own?.hospital) {
      const dot = draw("g", { class: "dot" }, draw("title", {}, `${hospitalName(p.hospital)}: ${full(series, p.value)}`), draw("circle", { cx: p.x, cy: base - size - 2 - p.level * gap, r: size, fill: paint(series) }));
      dot.addEventListener("click", () => choose(p.hospital));
      svg.append(dot);
    }
    const middleX = x(middle), ownX = own ? own.x : -1e9;
    if (own) svg.append(draw("line", { x1: own.x, x2: own.x, y1: 18, y2: base, class: "own" }), marker("D", own.x, base - size - 3 - own.level * gap, 5.5, { class: "ownmark" }),
      draw("text", { x: Math.min(Math.max(own.x, 62), width - 62), y: 13, class: "value strong", "text-anchor": "middle" }, `this hospital ${brief(series, own.value)}`));
    if (Math.abs(middleX - ownX) > 130) svg.append(draw("text", { x: Math.min(Math.max(middleX, 40), width - 40), y: 24, class: "tick", "text-anchor": "middle" }, `middle ${brief(series, middle)}`));
    return svg;
  }

  // ---- showing a pair
  let pictures = [];
  const redraw = () => pictures.forEach((picture) => picture());
  // a year that publishes fewer than half of the hospitals (Medicare 2017: one region) says nothing of the middle one of all
  const published = (i) => index.years.map((_, y) => shard.values[i].filter((v) => known(v[y])).length);
  const partial = (i) => { const n = published(i), most = Math.max(...n); return n.map((k) => k > 0 && 2 * k < most); };
  function middles(i) { const out = partial(i); return index.years.map((_, y) => (out[y] ? null : median(shard.values[i].map((v) => v[y])))); }

  function showPair() {
    pictures = [];
    const pair = pairOf(state.hospital), count = discharges();
    at("pair").replaceChildren(make("span", { class: "who" }, hospitalName(state.hospital)), " ", make("span", { class: "what" }, drgName(state.drg)));
    at("result").classList.toggle("empty", !pair);
    if (!pair) {
      at("facts").textContent = `No stays of this DRG are published for this hospital, and there is no forecast. ${plural(shard.hospitals.length, "hospital")} ${shard.hospitals.length === 1 ? "has" : "have"} it: see below.`;
      at("charts").replaceChildren();
      at("forecast-title").textContent = "No forecast for this hospital and DRG";
      at("forecast").replaceChildren();
      at("chart-note").textContent = "";
      at("numbers").hidden = true;
      return at("facts").textContent;
    }
    const seenYears = index.years.filter((_, y) => pair.seen[y]);
    const lastSeen = seenYears[seenYears.length - 1], lastCount = count >= 0 && lastSeen ? pair.values[count][index.years.indexOf(lastSeen)] : null;
    const place = index.hospitals.places?.[state.hospital];
    at("facts").textContent = [place, `id ${index.hospitals.ids[state.hospital]}`,
      seenYears.length ? `published in ${seenYears.length} of ${index.years.length} years` : "no year of its own is published",
      known(lastCount) ? `${plural(lastCount, "discharge")} in ${lastSeen}` : lastSeen && count >= 0 ? `number of discharges in ${lastSeen} not published` : null].filter(Boolean).join(" · ");

    const line = (s) => ({ series: s, values: pair.values[s.i], counts: count >= 0 ? pair.values[count] : null, middle: middles(s.i), forecast: pair.forecasts.find((f) => f && f.target.series === s.i) || null });
    const cards = [];
    const amounts = shownSeries("amount").slice(0, 2).map(line).filter((l) => l.values.some(known) || l.forecast);
    let headline = "";
    if (amounts.length) {
      const moves = amounts.map((l) => movement(l.series, l.values, l.series.short));
      const first = moves[0];
      let text = first ? first.text : "";
      const second = moves[1];
      if (first?.share != null && second?.share != null && String(second.years) === String(first.years)) text += `, ${lower(amounts[1].series.short)} ${Math.sign(second.share) === Math.sign(first.share) && second.verb !== "stayed level" && first.verb !== "stayed level" ? percent(Math.abs(second.share)) : second.verb}`;
      else if (first && second && first.share == null) {
        const same = String(second.years) === String(first.years) && first.years[0] === first.years[1];
        text = same ? text.replace(/ in \d+$/, ` and ${lower(second.text.replace(" was ", " "))}`) : `${text}, ${lower(second.text)}`;
      }
      const f = amounts[0].forecast || amounts.find((l) => l.forecast)?.forecast;
      if (f && text) text += `; ${amounts[0].forecast ? "" : `a ${lower(f.series.short)} of `}${expectation(f)}`;
      else if (f) text = `${f.series.short} of ${expectation(f)}`;
      headline = text;
      cards.push(card("amounts", text || "No amount is published", amounts, false));
    }
    for (const s of shownSeries("markup")) {
      const l = line(s);
      const there = l.values.map((v, y) => [index.years[y], v]).filter(([, v]) => known(v));
      if (!there.length) continue;
      const [y0, v0] = there[0], [y1, v1] = there[there.length - 1], of = s.unit.split(" ÷ ")[1];
      cards.push(card("markup", `Charged ${v1.toFixed(1)} times the ${of} in ${y1}${there.length < 2 ? "" : v0.toFixed(1) === v1.toFixed(1) ? `, as in ${y0}` : `, ${v0.toFixed(1)} times in ${y0}`}`, [l]));
    }
    for (const s of index.series.map((x, i) => ({ ...x, i }))) {
      const l = line(s);
      const covered = amounts.some((a) => a.series.i === s.i) || s.group === "markup";
      if (covered || !index.targets.some((t) => t.series === s.i) || !(l.forecast || l.values.some(known))) continue;
      const title = [movement(s, l.values, s.short)?.text, l.forecast ? expectation(l.forecast) : null].filter(Boolean).join("; ");
      headline = headline || title;
      cards.push(card(`target-${s.i}`, title, [l]));
    }
    at("charts").replaceChildren(...cards);
    const skipped = index.years.some((y, i) => i && y - index.years[i - 1] > 1 && pair.seen[i] && pair.seen[i - 1]), gap = pair.seen.join("").replace(/^0+|0+$/g, "").includes("0");
    const few = index.years.filter((_, y) => shownSeries("amount").some((s) => partial(s.i)[y]));
    at("chart-note").textContent = [`Thin line: the middle hospital of those published with this DRG in the year${few.length ? `, without ${few.join(" and ")}, where fewer than half of them are published` : ""}.`, skipped ? "Dashed: years that the source does not publish." : null,
      gap ? "A break in a line: a year without published stays of this pair." : null,
      pair.forecasts.some(Boolean) ? "Hollow mark and bars: the forecast with its 50, 80 and 90 % intervals." : null].filter(Boolean).join(" ");

    // the forecast in words
    const made = pair.forecasts.filter(Boolean);
    const lacking = index.targets.filter((_, i) => !pair.forecasts[i]);
    at("forecast-title").textContent = made.length ? `Expected in ${[...new Set(made.map((f) => f.target.year))].join(" and ")}` : "No forecast for this hospital and DRG";
    at("forecast").replaceChildren(...made.map((f) => {
      const holder = make("div", { class: "chart" });
      pictures.push(() => { const width = Math.floor(holder.clientWidth); if (width > 50) holder.replaceChildren(rangeChart(Math.min(width, 560), f)); });
      const ahead = known(f.lastYear) ? f.target.year - f.lastYear : null;
      const since = known(f.last) ? make("p", {}, `${change(f.last > 0 ? f.value / f.last - 1 : null)} on ${full(f.series, f.last)} in ${f.lastYear}${ahead > 1 ? `, ${ahead} years earlier` : ""}.`) : make("p", {}, "There is no last value to compare with.");
      const ranges = LEVELS.filter((l) => known(f.bounds[l][0])).map((l) => make("li", {}, `${l} %: ${full(f.series, f.bounds[l][0])} to ${full(f.series, f.bounds[l][1])}`));
      return make("div", { class: "expected" }, make("h4", {}, `${f.target.label}: `, make("strong", { class: "prediction", "data-target": f.target.name }, full(f.series, f.value)), ` (${f.target.unit})`),
        holder, make("ul", { class: "ranges" }, ...ranges), since, make("p", { class: "small" }, `Made ${METHODS[f.method] || f.method}${f.model && f.model !== f.method ? ` (${index.models[f.model] || f.model})` : ""}.`));
    }), ...(lacking.length ? [make("p", {}, `${made.length ? lacking.map((t) => t.label).join(", ") + ": no forecast. " : ""}${lastSeen ? `This pair was last published in ${lastSeen}${lastSeen < Math.max(...index.years) ? `; the source goes to ${Math.max(...index.years)}. A forecast needs a hospital and a DRG that its last years still hold` : ", without the value that a forecast starts from"}.` : ""}`)] : []));

    // the same as a table
    const columns = index.series.map((s, i) => ({ ...s, i })).filter((s) => pair.values[s.i].some(known) || pair.forecasts.some((f) => f && f.series.key === s.key));
    const body = [...seenYears.map((y) => [String(y), ...columns.map((s) => full(s, pair.values[s.i][index.years.indexOf(y)]))]),
      ...[...new Set(made.map((f) => f.target.year))].flatMap((y) => [["expected", (f) => f.value], ...[80, 90].flatMap((l) => [[`${l} % from`, (f) => f.bounds[l][0]], [`${l} % to`, (f) => f.bounds[l][1]]])]
        .map(([word, get]) => [`${y} ${word}`, ...columns.map((s) => { const f = made.find((m) => m.series.key === s.key && m.target.year === y); return f ? full(s, get(f)) : ""; })]))];
    at("years").replaceChildren(make("caption", {}, `${hospitalName(state.hospital)}, ${drgName(state.drg)}`),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Year"), ...columns.map((s) => make("th", { scope: "col" }, s.label, make("span", { class: "unit" }, s.unit))))),
      make("tbody", {}, ...body.map(([year, ...cells]) => make("tr", {}, make("th", { scope: "row" }, year), ...cells.map((c) => make("td", {}, c))))));
    at("numbers").hidden = false;
    return headline;
  }

  // ---- peers
  function comparable() { return index.series.map((s, i) => ({ ...s, i })).filter((s) => !s.statistic || s.statistic === state.statistic || index.targets.some((t) => t.series === s.i)); }
  function valuesIn(i, year) {
    const y = index.years.indexOf(year);
    if (y >= 0) return shard.values[i].map((v) => v[y]);
    const target = index.targets.find((t) => t.series === i && t.year === year);
    return target ? shard.forecast[target.name].prediction : shard.hospitals.map(() => null);
  }
  function showPeers() {
    const choices = comparable();
    const by = choices.find((s) => s.i === state.by) || choices[0];
    if (!by) return;
    const years = [...index.years, ...index.targets.filter((t) => t.series === by.i).map((t) => t.year)].filter((year) => valuesIn(by.i, year).some(known));
    const own = shard.hospitals.indexOf(state.hospital);
    const latest = [...years].reverse().find((year) => index.years.includes(year) && (own < 0 || known(valuesIn(by.i, year)[own]))) ?? years[years.length - 1];
    const year = years.includes(state.year) ? state.year : latest;
    fill(at("by"), choices.map((s) => [s.key, s.label]), by.key);
    fill(at("by-year"), years.map((y) => [y, index.years.includes(y) ? `${y}` : `${y} (forecast)`]), year);
    const values = year == null ? [] : valuesIn(by.i, year);
    const points = values.map((value, row) => ({ hospital: shard.hospitals[row], value })).filter((p) => known(p.value));
    const sorted = points.map((p) => p.value).sort((a, b) => a - b);
    const mine = points.find((p) => p.hospital === state.hospital);
    const holder = at("peers");
    if (!points.length) {
      at("peers-title").textContent = `No hospital has a value of ${lower(by.label)}`;
      at("peers-note").textContent = "";
      return holder.replaceChildren();
    }
    const middle = median(sorted), off = mine && middle > 0 ? mine.value / middle - 1 : null, under = mine ? sorted.filter((v) => v < mine.value).length : 0;
    const against = off == null ? "" : Math.abs(off) < 0.005 ? `as at the middle hospital` : `${percent(Math.abs(off))} ${off > 0 ? "above" : "below"} the middle hospital’s ${brief(by, middle)}`;
    const when = index.years.includes(year) ? `in ${year}` : `expected in ${year}`;
    const title = !mine ? `${by.label} ${when}: this hospital has no value; the middle one of ${plural(points.length, "hospital")} has ${brief(by, middle)}`
      : points.length === 1 ? `${by.label} ${when}: ${brief(by, mine.value)}; no other hospital has this DRG`
      : `${by.label} ${when}: ${brief(by, mine.value)}${against ? ", " + against : ""}; ${under === 0 ? `none of ${plural(points.length - 1, "other hospital")} is` : under === points.length - 1 ? `all ${points.length - 1} other hospitals are` : `${under} of ${points.length - 1} other hospitals are`} lower`;
    at("peers-title").textContent = title;
    at("peers-note").textContent = `Each point is a hospital with this DRG; the shaded part holds the middle half of them, the dashed line is the middle one (${full(by, middle)}). Each hospital counts once, whatever its size. The table below lists them.`;
    const quarters = [quantile(sorted, 0.25), quantile(sorted, 0.75)];
    pictures.push(() => {
      const width = Math.floor(holder.clientWidth);
      if (width < 50) return;
      const svg = strip(width, points.map((p) => (p === mine ? mine : { ...p })), mine, middle, quarters, by, (hospital) => go({ hospital }));
      build(svg, { role: "img", "aria-label": `${title}. Lowest ${full(by, sorted[0])}, a quarter below ${full(by, quarters[0])}, middle ${full(by, middle)}, a quarter above ${full(by, quarters[1])}, highest ${full(by, sorted[sorted.length - 1])}.` }, []);
      holder.replaceChildren(svg);
    });
  }
  function fill(select, pairs, chosen) {
    select.replaceChildren(...pairs.map(([value, text]) => make("option", { value }, text)));
    select.value = String(chosen);
  }

  // ---- the table
  const PAGE = 25;
  function tableRows() {
    const target = index.targets[state.target], count = discharges();
    const row = (hospital, drg, last, value, f, r) => ({ hospital, drg, year: last >= 0 ? index.years[last] : null, values: index.series.map((_, s) => (last >= 0 ? value(s) : null)),
      count: count >= 0 && last >= 0 ? value(count) : null, expected: f ? f.prediction[r] : null, low: f ? f.lower_80[r] : null, high: f ? f.upper_80[r] : null,
      change: f && known(f.prediction[r]) && f.last_value[r] > 0 ? f.prediction[r] / f.last_value[r] - 1 : null, method: f ? index.methods[f.method[r]] : null });
    if (state.scope === "drg") {
      const f = target && shard.forecast[target.name];
      return shard.hospitals.map((h, r) => { const last = 31 - Math.clz32(shard.seen[r]); return row(h, state.drg, last, (s) => shard.values[s][r][last], f, r); });
    }
    const f = target && all.forecast[target.name], made = [];
    let pairs = 0;
    index.pairs.forEach((hospitals, d) => hospitals.forEach((h) => {
      const r = pairs++;
      if (state.scope === "all" || h === state.hospital) made.push(row(h, d, all.last[r], (s) => all.values[s][r], f, r));
    }));
    return made;
  }
  function tableColumns() {
    const target = index.targets[state.target], columns = [];
    const add = (key, label, value, text, csv, extra) => columns.push({ key, label, value, text, csv, ...extra });
    if (state.scope !== "hospital") {
      add("hospital", "Hospital", (r) => sortName[r.hospital], (r) => hospitalName(r.hospital), [["facility_id", (r) => index.hospitals.ids[r.hospital]], ["facility_name", (r) => index.hospitals.names[r.hospital]]], { words: true, link: true });
    }
    if (state.scope !== "drg") add("drg", "DRG", (r) => index.drgs.ids[r.drg], (r) => drgName(r.drg).slice(4), [["apr_drg_code", (r) => index.drgs.ids[r.drg]], ["apr_drg_description", (r) => index.drgs.names[r.drg]]], { words: true, link: state.scope === "hospital" });
    if (target) {
      const s = index.series[target.series];
      add("expected", `Expected ${target.year}`, (r) => r.expected, (r) => full(s, r.expected), [["forecast_year", (r) => (known(r.expected) ? target.year : null)], [`${target.name}_expected`, (r) => r.expected]], { unit: target.unit });
      add("low", "80 % interval", (r) => r.low, (r) => (known(r.low) ? `${full(s, r.low)} to ${full(s, r.high)}` : "–"), [[`${target.name}_lower_80`, (r) => r.low], [`${target.name}_upper_80`, (r) => r.high]], { unit: target.unit, wide: true });
      add("change", "Change", (r) => r.change, (r) => change(r.change), [["expected_change_share", (r) => (known(r.change) ? Number(r.change.toFixed(4)) : null)]], { unit: "on the last value" });
    }
    add("year", "Last year", (r) => r.year, (r) => r.year ?? "–", [["last_year", (r) => r.year]]);
    const shown = index.series.map((s, i) => ({ ...s, i })).filter((s) => (s.group === "amount" && s.statistic === state.statistic) || s.group === "markup" || (target && target.series === s.i && s.group !== "discharges"));
    for (const s of [...index.series.map((s, i) => ({ ...s, i })).filter((s) => s.group === "discharges"), ...shown])
      add(s.key, s.group === "amount" ? s.label : s.short, (r) => r.values[s.i], (r) => full(s, r.values[s.i]), [[s.key, (r) => r.values[s.i]]], { unit: s.group === "discharges" ? null : s.unit });
    if (state.scope !== "hospital" && index.hospitals.places) add("place", "City", (r) => index.hospitals.places[r.hospital], (r) => index.hospitals.places[r.hospital], [["city", (r) => index.hospitals.places[r.hospital]]], { words: true });
    if (target) add("method", "Made by", (r) => r.method, (r) => r.method ?? "–", [["method", (r) => r.method]], { words: true });
    return columns;
  }
  const searchText = (row) => `${hospitalWords[row.hospital]} ${drgWords[row.drg]}`;
  let shownRows = [], columns = [];
  function showTable() {
    columns = tableColumns();
    if (!columns.some((c) => c.key === sort.key)) sort = { key: columns[0].key, down: false };
    const words = wordsOf(at("filter").value), least = Number(at("least").value) || 0, only = at("only").checked;
    shownRows = rows.filter((r) => (!least || (known(r.count) && r.count >= least)) && (!only || known(r.expected)) && (!words.length || ((text) => words.every((w) => text.includes(w)))(searchText(r))));
    const key = columns.find((c) => c.key === sort.key), way = sort.down ? -1 : 1;
    const none = (v) => v == null || v === "" || (typeof v === "number" && !Number.isFinite(v));
    const keyed = shownRows.map((r, n) => ({ r, n, v: key.value(r) }));
    keyed.sort((a, b) => { // rows without a value come last either way
      if (none(a.v) || none(b.v)) return none(a.v) - none(b.v) || a.n - b.n;
      return way * (typeof a.v === "number" ? a.v - b.v : a.v < b.v ? -1 : a.v > b.v ? 1 : 0) || a.n - b.n;
    });
    shownRows = keyed.map((k) => k.r);
    const pages = Math.max(1, Math.ceil(shownRows.length / PAGE));
    pageNumber = Math.min(pageNumber, pages - 1);
    const part = shownRows.slice(pageNumber * PAGE, (pageNumber + 1) * PAGE);
    const head = columns.map((c) => {
      const button = make("button", { type: "button" }, c.label, c.unit ? make("span", { class: "unit" }, c.unit) : null);
      button.addEventListener("click", () => {
        sort = { key: c.key, down: sort.key === c.key ? !sort.down : !c.words };
        pageNumber = 0;
        showTable();
        at("table").querySelector(`th[data-key="${CSS.escape(c.key)}"] button`)?.focus();
      });
      return make("th", { scope: "col", class: c.words ? "words" : null, "data-key": c.key, "aria-sort": sort.key === c.key ? (sort.down ? "descending" : "ascending") : "none" }, button);
    });
    const body = part.map((r) => make("tr", { "aria-current": r.hospital === state.hospital && r.drg === state.drg ? "true" : null },
      ...columns.map((c) => {
        const text = String(c.text(r) ?? "");
        const cell = c.link ? make("a", { href: address({ hospital: r.hospital, drg: r.drg }) }, text) : text;
        return make(c.link ? "th" : "td", { scope: c.link ? "row" : null, class: c.words ? "words" : c.wide ? "wide" : null }, cell);
      })));
    at("table").className = state.scope;
    at("table").replaceChildren(make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
    at("count").textContent = `${shownRows.length.toLocaleString("en-US")} of ${plural(rows.length, "row")}. Amounts are of each pair’s last published year${index.synthetic ? "; synthetic data" : ""}.`;
    at("page").textContent = `Page ${pageNumber + 1} of ${pages}`;
    at("previous").disabled = pageNumber === 0;
    at("next").disabled = pageNumber >= pages - 1;
    at("download").textContent = `Download ${plural(shownRows.length, "row")} (CSV)`;
  }
  function csv(names, lines) {
    const cell = (value) => {
      if (value == null) return "";
      if (typeof value === "number") return String(value);
      const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value; // a spreadsheet must not run a name as a formula
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return [names, ...lines].map((line) => line.map(cell).join(",")).join("\n") + "\n";
  }
  function save(name, text) {
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" })), download: `${index.synthetic ? "synthetic-" : ""}${name}.csv`.replace(/[^\w.-]+/g, "_") });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  function downloadTable() {
    let fields = columns.flatMap((c) => c.csv);
    if (state.scope === "hospital") fields = [["facility_id", (r) => index.hospitals.ids[r.hospital]], ["facility_name", (r) => index.hospitals.names[r.hospital]], ...fields];
    if (state.scope === "drg") fields = [["apr_drg_code", (r) => index.drgs.ids[r.drg]], ["apr_drg_description", (r) => index.drgs.names[r.drg]], ...fields];
    fields.push(["source", () => index.title]);
    const name = { drg: `drg-${index.drgs.ids[state.drg]}`, hospital: `hospital-${index.hospitals.ids[state.hospital]}`, all: "all-pairs" }[state.scope];
    save(name, csv(fields.map(([n]) => n), shownRows.map((r) => fields.map(([, get]) => get(r)))));
  }
  function downloadYears() {
    const pair = pairOf(state.hospital);
    const lines = index.years.flatMap((y, n) => (pair.seen[n] ? [[y, ...index.series.map((_, s) => pair.values[s][n]), index.title]] : []));
    const ids = [index.hospitals.ids[state.hospital], index.drgs.ids[state.drg]];
    save(`hospital-${ids[0]}-drg-${ids[1]}`, csv(["facility_id", "apr_drg_code", "year", ...index.series.map((s) => s.key), "source"], lines.map((l) => [...ids, ...l])));
  }

  // ---- showing the address
  let boxes, turn = 0;
  async function show() {
    const mine = ++turn, before = state;
    state = readAddress();
    boxes.forEach((box) => box.refresh());
    showSwitch();
    page.setAttribute("aria-busy", "true");
    try {
      const [next, everything] = await Promise.all([load(`drg-${state.drg}`), state.scope === "drg" ? null : load("all")]);
      if (mine !== turn) return;
      shard = { ...next, hospitals: index.pairs[state.drg] };
      all = everything || all;
    } catch (error) {
      if (mine !== turn) return;
      at("status").textContent = `This choice cannot be shown: ${error.message}.`;
      at("status").className = "status bad";
      return;
    } finally { if (mine === turn) page.removeAttribute("aria-busy"); }
    at("result").hidden = at("table-section").hidden = false;
    const headline = showPair();
    showPeers();
    redraw();
    const moved = !before || before.hospital !== state.hospital || before.drg !== state.drg;
    at("status").className = state.trouble.length ? "status bad" : "status quiet";
    const said = `${hospitalName(state.hospital)}, ${drgName(state.drg)}`;
    if (state.trouble.length) at("status").textContent = `${state.trouble.join(" ")} Shown instead: ${said}.`;
    else if (moved) at("status").textContent = before ? `${said}: ${headline}` : "";
    document.title = `${said}${index.synthetic ? " (synthetic data)" : ""}`;
    fill(at("scope"), [["drg", `all hospitals with DRG ${index.drgs.ids[state.drg]}`], ["hospital", "all DRGs of this hospital"], ["all", "all hospitals and DRGs"]], state.scope);
    fill(at("target"), index.targets.map((t) => [t.name, t.label]), index.targets[state.target]?.name);
    at("target-label").hidden = index.targets.length < 2;
    at("table-title").textContent = { drg: `All hospitals with ${drgName(state.drg)}`, hospital: `All DRGs of ${hospitalName(state.hospital)}`, all: "All hospitals and DRGs" }[state.scope];
    if (!before || before.scope !== state.scope) { sort = { key: null, down: false }; pageNumber = 0; }
    if (moved) pageNumber = 0;
    rows = tableRows();
    showTable();
    performance.mark("shown"); // benchmarks/explorer.py reads it
  }
  function showSwitch() {
    const box = at("statistic");
    box.hidden = state.statistics.length < 2;
    if (box.hidden) return;
    if (box.children.length < 2) {
      box.append(...state.statistics.map((s) => make("label", {}, make("input", { type: "radio", name: "statistic", value: s }), s)));
      box.addEventListener("change", (event) => go({ statistic: event.target.value, by: -1, year: null }));
    }
    box.querySelectorAll("input").forEach((input) => { input.checked = input.value === state.statistic; });
  }

  function about() {
    const item = (term, ...text) => [make("dt", {}, term), make("dd", {}, ...text)];
    const markup = index.series.find((s) => s.group === "markup");
    return make("dl", {},
      ...item("Source", `${index.title || "not named"}. Years: ${index.years.join(", ")}. ${index.note}`),
      ...item("Amounts", "In US dollars of their year, not adjusted for inflation. From $1,000 on they are rounded to whole dollars. A charge is what the hospital asks, not what is paid."),
      ...(markup ? item("Markup", `${markup.label.replace(/^Markup \((.*)\)$/, "$1")}: how many times the ${markup.unit.split(" ÷ ")[1]} the charge is.${/payment/.test(markup.unit) ? " The source has payments, not costs." : ""}`) : []),
      ...item("Forecast", index.targets.length ? `${index.targets.map((t) => `${t.label} (${t.unit}), ${t.year}`).join("; ")}. Of 100 intervals of 80 %, about 80 hold what comes; likewise for 50 and 90 %. The report of the evaluation says how far past forecasts were off. A hospital or a DRG that left the source has none.` : "None was made."),
      ...item("Made by", `“model”: ${METHODS.model}. “hierarchy”: ${METHODS.hierarchy}.`),
      ...item("Few discharges", "The mean of a handful of stays moves by chance. The table shows each pair’s number of discharges, as far as the source publishes it."));
  }

  function start() {
    const themeButton = at("theme");
    const label = () => { themeButton.textContent = page.dataset.theme === "dark" ? "Light" : "Dark"; themeButton.setAttribute("aria-label", `Change to the ${page.dataset.theme === "dark" ? "light" : "dark"} page`); };
    themeButton.addEventListener("click", () => {
      const mode = page.dataset.theme === "dark" ? "light" : "dark";
      setTheme(mode);
      keep("mode", mode);
      keep("theme", mode);
      label();
    });
    label();
    state = readAddress();
    sortName = index.hospitals.ids.map((_, h) => plain(hospitalName(h)));
    hospitalWords = index.hospitals.ids.map((id, h) => wordsOf(`${hospitalName(h)} ${id} ${index.hospitals.places?.[h] ?? ""}`).join(" "));
    drgWords = index.drgs.ids.map((_, d) => wordsOf(drgName(d)).join(" "));
    const drgsOf = index.hospitals.ids.map(() => new Set());
    index.pairs.forEach((hospitals, d) => hospitals.forEach((h) => drgsOf[h].add(d)));
    const option = (value, id, name, label, note, text) => ({ value, id: plain(id), name: plain(name), label, note, base: note, search: ` ${wordsOf(text).join(" ")} ` });
    const hospitals = index.hospitals.ids.map((id, h) => {
      const place = index.hospitals.places?.[h] ?? "";
      return option(h, id, hospitalName(h), hospitalName(h), [place, `id ${id}`].filter(Boolean).join(" · "), `${hospitalName(h)} ${id} ${place}`);
    }).sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.value - b.value));
    const drgs = index.drgs.ids.map((id, d) => option(d, id, index.drgs.names[d], drgName(d).slice(4), "", `${id} ${index.drgs.names[d]}`));
    const mark = (list, has, words) => { for (const o of list) { o.muted = !has(o.value); o.note = [o.base, o.muted ? words : ""].filter(Boolean).join(" · "); } return list; };
    boxes = [
      combobox(at("hospital"), at("hospital-list"), () => mark(hospitals, (h) => drgsOf[h].has(state.drg), "not with this DRG"), () => state.hospital, (hospital) => go({ hospital, year: null }), hospitalName),
      combobox(at("drg"), at("drg-list"), () => mark(drgs, (d) => drgsOf[state.hospital].has(d), "not at this hospital"), () => state.drg, (drg) => go({ drg, year: null }), (d) => drgName(d).slice(4)),
    ];
    at("choice").addEventListener("submit", (event) => event.preventDefault());
    at("by").addEventListener("change", (event) => go({ by: index.series.findIndex((s) => s.key === event.target.value) }));
    at("by-year").addEventListener("change", (event) => go({ year: Number(event.target.value) }));
    at("scope").addEventListener("change", (event) => go({ scope: event.target.value }));
    at("target").addEventListener("change", (event) => go({ target: index.targets.findIndex((t) => t.name === event.target.value) }));
    const again = () => { pageNumber = 0; showTable(); };
    for (const id of ["filter", "least"]) at(id).addEventListener("input", again);
    at("only").addEventListener("change", again);
    at("previous").addEventListener("click", () => { pageNumber--; showTable(); });
    at("next").addEventListener("click", () => { pageNumber++; showTable(); });
    at("download").addEventListener("click", downloadTable);
    at("years-download").addEventListener("click", downloadYears);
    at("table").addEventListener("click", (event) => { if (event.target.closest("a")) at("main").focus(); });
    at("about").replaceChildren(about());
    let width = innerWidth;
    addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; redraw(); } });
    addEventListener("hashchange", show);
    addEventListener("beforeprint", redraw);
    show();
  }
})();
