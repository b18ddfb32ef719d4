// Creates and changes elements, for all pages. A text only ever becomes a text node, so that no text of a client can be
// markup or a script.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null) continue;
    // An aria attribute that is false is written as "false": a screen reader takes an absent one for its default.
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

/** Appends elements and texts, also from nested lists. Null, undefined and false are left out. */
export function put(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Returns a new element with attributes, listeners (such as `onclick`) and children. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** Returns a new element of an SVG drawing, as `h` does for HTML. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Replaces the children of an element. */
export function set(element, ...children) {
  element.replaceChildren();
  put(element, ...children);
}

/** Sets the text of an element. A text that is the same is not set again, so that the browser has no layout to do. */
export function write(element, text) {
  const now = String(text);
  if (element.textContent !== now) element.textContent = now;
}

/** Returns an input with its label. */
export function field(label, input) {
  return h("label", { class: "field" }, h("span", { class: "label" }, label), input);
}

/** Returns a select that offers `[value, text]` pairs, with `value` selected. */
export function choice(options, value, props) {
  const select = h("select", props, options.map(([key, text]) => h("option", { value: key }, text)));
  select.value = value;
  return select;
}
