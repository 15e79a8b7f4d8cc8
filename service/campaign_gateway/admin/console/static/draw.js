// What all screens draw with. Elements are made once and changed in place, so that nothing moves.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

export function make(tag, fields = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(fields)) made[name] = value;
  made.append(...children);
  return made;
}

export function makeSvg(tag, fields = {}) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(fields)) made.setAttribute(name, value);
  return made;
}

export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

export function look(element, className) {
  if (element.getAttribute("class") !== className) element.setAttribute("class", className);
}

// As many children as there are values; `create` makes one, `change` shows a value in it.
export function fill(parent, values, create, change) {
  while (parent.children.length > values.length) parent.lastElementChild.remove();
  while (parent.children.length < values.length) parent.append(create());
  values.forEach((value, number) => change(parent.children[number], value, number));
}

// The body of a table: each value becomes a row of texts, or of nodes.
export function rows(table, values, cells, kind = () => "") {
  const width = table.tHead.rows[0].cells.length;
  const create = () => make("tr", {}, ...Array.from({ length: width }, () => make("td")));
  fill(table.tBodies[0], values, create, (row, value) => {
    look(row, kind(value));
    cells(value).forEach((shown, number) => {
      const cell = row.cells[number];
      if (typeof shown === "string") {
        text(cell, shown);
        if (cell.title !== shown) cell.title = shown;
      } else cell.replaceChildren(shown);
    });
  });
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const size = Math.abs(seconds);
  if (size < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (size < 1) return `${Math.round(seconds * 1e3)} ms`;
  if (size < 10) return `${seconds.toFixed(1)} s`;
  if (size < 120) return `${Math.round(seconds)} s`;
  if (size < 7200) return `${Math.round(seconds / 60)} min`;
  return size < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

export const ago = (seconds) => (seconds === null || seconds === undefined ? "–" : `${span(Math.max(0, seconds))} ago`);

export const part = (share) => (share === null || share === undefined ? "–" : `${(share * 100).toFixed(share > 0.99 && share < 1 ? 2 : 0)} %`);

export const number = (value, digits = 0) =>
  value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits });

export const clock = (moment) => new Date(moment * 1000).toTimeString().slice(0, 8);

// A line of values, the newest at the right; where one is null, there is a gap.
export function spark(svg, values, steps) {
  const most = Math.max(...values.filter((value) => value !== null), 1e-9);
  let path = "";
  let isDrawing = false;
  values.forEach((value, at) => {
    if (value !== null) {
      const x = ((steps - values.length + at) / (steps - 1)) * 300;
      path += `${isDrawing ? "L" : "M"}${x.toFixed(1)} ${(33 - (value / most) * 30).toFixed(1)}`;
      if (!isDrawing) path += "h0.1";
    }
    isDrawing = value !== null;
  });
  if (!svg.firstChild) {
    svg.setAttribute("viewBox", "0 0 300 36");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.append(makeSvg("path"));
  }
  svg.firstChild.setAttribute("d", path);
}
