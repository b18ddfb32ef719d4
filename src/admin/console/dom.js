// Elements. Text only ever becomes a text node: what a client sent is shown, never run.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null) continue;
    // What is said to a screen reader is true or false, not there or absent.
    if (name.startsWith("aria-")) element.setAttribute(name, String(value));
    else if (value === false) continue;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else if (name === "checked") element.checked = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  put(element, ...children);
  return element;
}

/** Appends elements and texts; what is null is left out. */
export function put(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** An element with attributes, listeners (`onclick`) and children. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same in a drawing. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Replaces all that is in an element. */
export function set(element, ...children) {
  element.replaceChildren();
  put(element, ...children);
}

/** Changes a text only when it has changed, so that nothing is laid out for nothing. */
export function write(element, text) {
  const now = String(text);
  if (element.textContent !== now) element.textContent = now;
}

/** A labelled input. */
export function field(label, input) {
  return h("label", { class: "field" }, h("span", { class: "label" }, label), input);
}

/** A select of `[value, text]` pairs. */
export function choice(options, value, props) {
  const select = h("select", props, options.map(([key, text]) => h("option", { value: key }, text)));
  select.value = value;
  return select;
}
