/** How elements are made: data only ever becomes text or an attribute's value, never markup. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an HTML element.
 * @param {string} tag
 * @param {Object<string, string|number|boolean|null|undefined>} [attributes] null, undefined and false are left out
 * @param {...(Node|string)} children
 */
export function element(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** Make an SVG element, as `element` does. */
export function drawing(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Make a button that does something; one with aria-disabled keeps the focus, and does nothing. */
export function button(label, action, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, label);
  onPress(made, action);
  return made;
}

/** Run an action on every press but those while the button waits for the answer to the last one. */
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
 * Make a table. Narrow screens lay its rows out as blocks, and some browsers then forget what they are: roles remind them.
 * @param {string} caption
 * @param {{label: string, kind: string}[]} columns `kind` becomes the class of header and cells
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

/** Make a row of a table; `columns` as given to `tableOf`, the cell at `header` names the row. */
export function rowOf(columns, contents, header = 0) {
  const cells = contents.map((content, index) => {
    const { kind, label } = columns[index];
    const [tag, named] = index === header ? ["th", { scope: "row", role: "rowheader" }] : ["td", { role: "cell" }];
    return element(tag, { class: kind, "data-label": label, ...named }, ...[content].flat());
  });
  return element("tr", { role: "row" }, ...cells);
}

/** Make rows of the height of the ones that are being waited for. */
export function ghostRows(columns, count = 8) {
  const row = () => {
    const cells = columns.map(({ kind }) => element("td", { class: kind }, element("span", { class: "ghost" })));
    return element("tr", { "aria-hidden": "true", class: "ghosts" }, ...cells);
  };
  return Array.from({ length: count }, row);
}

/** Make text whose direction does not disturb its neighbours: names come in every script. */
export function isolated(text, attributes = {}) {
  return element("bdi", attributes, text);
}

/** Make what stands where there is no value to show, with its meaning for those who do not see the sign. */
export function nothing(meaning, sign = "–") {
  return element(
    "span",
    { class: "hint" },
    element("span", { "aria-hidden": "true" }, sign),
    element("span", { class: "unseen" }, meaning),
  );
}
