/** How elements are made. Data becomes text or the value of an attribute, never markup. */

const SVG = "http://www.w3.org/2000/svg";

/** @returns {HTMLInputElement & HTMLDialogElement} the element of the template with an id */
export function at(id) {
  return /** @type {any} */ (document.getElementById(id));
}

/**
 * Make an HTML element.
 * @param {string} tag
 * @param {Object<string, string|number|boolean|null|undefined>} [attributes] null, undefined and false are left out
 * @param {...(Node|string)} children
 * @returns {any}
 */
export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an SVG element, as `element` does. */
export function drawing(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Make a button. */
export function button(label, action, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, label);
  onPress(made, action);
  return made;
}

/** Run an action on every press but those while it is running. The button keeps the focus: it is not `disabled`. */
export function onPress(pressed, action) {
  pressed.addEventListener("click", async () => {
    if (pressed.ariaDisabled === "true") return;
    pressed.ariaDisabled = "true";
    try {
      await action();
    } finally {
      pressed.ariaDisabled = null;
    }
  });
}

/**
 * Make a table. On narrow screens its rows are blocks; its roles are explicit because some browsers then drop them.
 * @param {string} caption
 * @param {{label: string, kind: string}[]} columns `kind` becomes the class of the cells
 * @returns {{table: HTMLTableElement, body: HTMLTableSectionElement}}
 */
export function tableOf(caption, columns, attributes = {}) {
  const heads = columns.map(({ label, kind }) =>
    element("th", { scope: "col", role: "columnheader", class: kind }, label),
  );
  const body = element("tbody", { role: "rowgroup" });
  const table = element(
    "table",
    { role: "table", ...attributes },
    element("caption", {}, caption),
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...heads)),
    body,
  );
  return { table, body };
}

/**
 * Make a row of a table.
 * @param {{label: string, kind: string, header?: boolean, cell: function}[]} columns as given to `tableOf`; `header` heads
 *   the row, `cell` makes the content of a cell from the item and its index
 */
export function rowOf(columns, item, index = 0) {
  const cells = columns.map(({ kind, label, header, cell }) => {
    const [tag, named] = header ? ["th", { scope: "row", role: "rowheader" }] : ["td", { role: "cell" }];
    return element(tag, { class: kind, "data-label": label, ...named }, ...[cell(item, index)].flat());
  });
  return element("tr", { role: "row" }, ...cells);
}

/** Make placeholder rows, of about the height of rows with data. */
export function ghostRows(columns, count = 8) {
  const row = () => {
    const cells = columns.map(({ kind }) => element("td", { class: kind }, element("span", { class: "ghost" })));
    return element("tr", { "aria-hidden": "true", class: "ghosts" }, ...cells);
  };
  return Array.from({ length: count }, row);
}

/** Make text whose direction does not affect the text around it. */
export function isolated(text, attributes = {}) {
  return element("bdi", attributes, text);
}

/** Make a sign for a missing value; a screen reader reads the meaning instead. */
export function nothing(meaning, sign = "–") {
  return element(
    "span",
    { class: "hint" },
    element("span", { "aria-hidden": "true" }, sign),
    element("span", { class: "unseen" }, meaning),
  );
}
