// SPDX-License-Identifier: BSD-2-Clause
// The heat maps of the mesh: a square for each tile, a slider over frames.
(() => {
  const place = document.getElementById("heat");
  if (!place) return;
  const { rows, columns, frames } = JSON.parse(document.getElementById("heat-data").textContent);
  const tiles = rows * columns;
  const number = (x) => x.toLocaleString("en-US");
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const links = (frame, t) => sum(frame.links.slice(4 * t, 4 * t + 4));
  const metrics = {
    MACs: {
      unit: "MACs a cycle of a tile; 8 is all that its multipliers can do",
      of: (frame, t) => frame.macs[t],
      text: (x) => `${x.toFixed(2)}`,
      raw: (frame, t) => `${number(frame.macs[t])} MACs`,
    },
    "SRAM bytes": {
      unit: "bytes a cycle that a tile's SRAM reads and writes",
      of: (frame, t) => frame.sram[t],
      text: (x) => `${x.toFixed(2)}`,
      raw: (frame, t) => `${number(frame.sram[t])} bytes`,
    },
    "Link occupancy": {
      unit: "part of the cycles in which a link carries a wavelet; the four triangles of a tile are its links to north, east, south and west",
      of: (frame, t, way) => (way === undefined ? links(frame, t) / 4 : frame.links[4 * t + way]),
      text: (x) => `${(100 * x).toFixed(1)} %`,
      raw: (frame, t) =>
        ["north", "east", "south", "west"].map((way, k) => `${way} ${number(frame.links[4 * t + k])}`).join(", ") + " wavelets",
      ways: 4,
    },
    Stalls: {
      unit: "part of the cycles in which a tile waits: for wavelets, its pipe, its SRAM or the fabric",
      of: (frame, t) => frame.stalls[t],
      text: (x) => `${(100 * x).toFixed(1)} %`,
      raw: (frame, t) => `${number(frame.stalls[t])} cycles`,
    },
  };
  for (const metric of Object.values(metrics)) {
    // The first frame is a mean over all of decode: on the scale of the others it would be pale.
    metric.tops = [0, 0];
    frames.forEach((frame, index) => {
      const scale = index === 0 ? 0 : 1;
      for (let t = 0; t < tiles; ++t)
        for (let way = 0; way < (metric.ways || 1); ++way) {
          const value = metric.of(frame, t, metric.ways && way) / (frame.end - frame.start);
          metric.tops[scale] = Math.max(metric.tops[scale], value);
        }
    });
  }
  const find = (name) => place.querySelector(name);
  const slider = find("input");
  slider.max = frames.length - 1;
  const svg = find("svg");
  const make = (name, fields, parent) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(fields)) node.setAttribute(key, value);
    parent.append(node);
    return node;
  };
  const side = 40, gap = rows > 32 || columns > 32 ? 0 : 3, edge = 22;
  const step = side + gap;
  svg.setAttribute("viewBox", `0 0 ${edge + columns * step} ${edge + rows * step}`);
  const every = (n) => Math.ceil(n / 16);
  for (let c = 0; c < columns; c += every(columns))
    make("text", { x: edge + c * step + side / 2, y: 13, "text-anchor": "middle" }, svg).textContent = c;
  for (let r = 0; r < rows; r += every(rows))
    make("text", { x: 13, y: edge + r * step + side / 2 + 4, "text-anchor": "end" }, svg).textContent = r;
  const squares = [];
  const corners = [[0, 0], [side, 0], [side, side], [0, side]];
  for (let t = 0; t < tiles; ++t) {
    const x = edge + (t % columns) * step, y = edge + Math.floor(t / columns) * step;
    const group = make("g", { transform: `translate(${x},${y})` }, svg);
    const parts = [make("rect", { width: side, height: side, rx: gap }, group)];
    for (let way = 0; way < 4; ++way) {
      const [a, b] = [corners[way], corners[(way + 1) % 4]];
      parts.push(make("path", { d: `M${a}L${b}L${side / 2},${side / 2}Z` }, group));
    }
    group.addEventListener("pointerenter", () => { hovered = t; tell(); });
    group.addEventListener("pointerleave", () => { hovered = -1; tell(); });
    squares.push(parts);
  }
  const busy = make("rect", { width: side + 2, height: side + 2, rx: gap, class: "busy" }, svg);
  let current = "MACs", hovered = -1;
  const paint = (part) => `color-mix(in srgb, rgb(var(--heat-1)) ${(100 * part).toFixed(1)}%, rgb(var(--heat-0)))`;
  const tell = () => {
    const frame = frames[+slider.value], metric = metrics[current];
    const cycles = frame.end - frame.start;
    const all = Array.from({ length: tiles }, (_, t) => metric.of(frame, t) / cycles);
    const best = all.indexOf(Math.max(...all));
    const say = (t) => `row ${Math.floor(t / columns)}, column ${t % columns}: ${metric.text(all[t])} (${metric.raw(frame, t)})`;
    find(".hover").textContent = hovered < 0
      ? `mean ${metric.text(sum(all) / tiles)}\nhighest, framed: ${say(best)}`
      : say(hovered);
    busy.setAttribute("x", edge + (best % columns) * step - 1);
    busy.setAttribute("y", edge + Math.floor(best / columns) * step - 1);
  };
  // The mean of all tiles in each frame, a bar for each; a click goes there.
  const trend = find(".trend"), wide = 400, high = 74;
  trend.setAttribute("viewBox", `0 0 ${wide} ${high}`);
  const bars = frames.map((_, index) => {
    const bar = make("rect", { x: (index * wide) / frames.length, width: Math.max(0.5, wide / frames.length - 0.6) }, trend);
    bar.addEventListener("click", () => { slider.value = index; show(); });
    make("title", {}, bar).textContent = frames[index].title;
    return bar;
  });
  const drawTrend = () => {
    const metric = metrics[current];
    const means = frames.map((frame) =>
      sum(Array.from({ length: tiles }, (_, t) => metric.of(frame, t))) / tiles / (frame.end - frame.start));
    const top = Math.max(...means) || 1;
    bars.forEach((bar, index) => {
      const tall = (high * means[index]) / top;
      bar.setAttribute("y", high - tall);
      bar.setAttribute("height", tall);
      bar.classList.toggle("now", index === +slider.value);
    });
    find(".trendname").textContent = `Mean of all tiles at each position of the slider, up to ${metric.text(top)}`;
  };
  const show = () => {
    const frame = frames[+slider.value], metric = metrics[current];
    const cycles = frame.end - frame.start;
    const top = metric.tops[+slider.value === 0 ? 0 : 1];
    squares.forEach((parts, t) => {
      parts.forEach((part, index) => {
        const used = metric.ways ? index > 0 : index === 0;
        part.style.display = used ? "" : "none";
        if (used) part.style.fill = paint(top ? metric.of(frame, t, metric.ways && index - 1) / cycles / top : 0);
      });
    });
    find(".frame b").textContent = frame.title;
    find(".frame span").textContent = `cycles ${number(frame.start)} to ${number(frame.end)}, ${number(cycles)} in all`;
    find(".low").textContent = metric.text(0);
    find(".high").textContent = metric.text(top);
    find(".unit").textContent = metric.unit;
    for (const button of find(".metrics").children) button.setAttribute("aria-pressed", button.textContent === current);
    drawTrend();
    tell();
  };
  for (const name of Object.keys(metrics)) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => { current = name; show(); });
    find(".metrics").append(button);
  }
  slider.addEventListener("input", show);
  show();
})();
