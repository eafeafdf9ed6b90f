// Building and changing the document. All text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** The element with an id. */
export const at = (id) => document.getElementById(id);

/** An HTML element: h("p", {class: "x"}, "text", child). */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Set a node's text, only where it differs: nothing that a reader has selected is lost. */
export function text(node, value) {
  const words = String(value);
  if (node.textContent !== words) node.textContent = words;
}

/** Draw a node's children again, only when what they are drawn from has changed. */
export function redraw(node, source, build) {
  const key = JSON.stringify(source);
  if (node.drawnFrom === key) return;
  node.drawnFrom = key;
  node.replaceChildren(...[build()].flat().filter(Boolean));
}

/** Show or hide a node. */
export const show = (node, visible) => { node.hidden = !visible; };

/** A small line of a history, on a scale from 0 to the largest unless told otherwise. */
export function spark(values, { width = 96, height = 26, from = 0 } = {}) {
  const known = values.filter((value) => value !== null && value !== undefined);
  const svg = s("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", preserveAspectRatio: "none" });
  if (known.length < 2) return svg;
  const top = Math.max(...known), bottom = from === null ? Math.min(...known) : Math.min(from, ...known);
  const spread = top - bottom || 1, step = (width - 4) / (known.length - 1);
  const points = known.map((value, i) => [2 + i * step, height - 3 - ((value - bottom) / spread) * (height - 6)]);
  const line = points.map((point) => point.map((n) => n.toFixed(1)).join(",")).join(" ");
  svg.append(
    s("polygon", { points: `2,${height} ${line} ${points.at(-1)[0].toFixed(1)},${height}` }),
    s("polyline", { points: line, "vector-effect": "non-scaling-stroke" }),
  );
  return svg;
}
