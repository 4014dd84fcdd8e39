/** The panel of a half of the page: the list of its state as a table, page after page, with its errors. */

import { button, element, ghostRows, rowOf, tableOf } from "./elements.js";
import { counted, integer } from "./format.js";
import { Notice, announce } from "./notices.js";
import { LIMIT, kindOf } from "./state.js";

export class Panel {
  /** What the table shows: a list, and the credits of which its items have their shares. */
  #list = null;
  #whole = null;
  #busy = null;
  /** Whether its items have shares; undefined in a list without that column. */
  #isShared;
  #body = null;

  /**
   * @param {Element} place
   * @param {() => Promise<void>} more loads the next page
   * @param {() => Promise<void>} retry loads the list again
   */
  constructor(place, more, retry) {
    const part = (name) => element("div", { "data-part": name });
    this.parts = { notice: part("notice"), grants: part("grants"), table: part("table"), trouble: part("trouble") };
    this.count = element("p");
    this.more = button("Load more", more, { hidden: true });
    this.notice = new Notice(this.parts.notice, "Try again", retry);
    this.trouble = new Notice(this.parts.trouble, "Try again", more);
    place.replaceChildren(...Object.values(this.parts), element("div", { class: "more" }, this.count, this.more));
  }

  /**
   * Draw what has changed.
   * @param {import("./state.js").State} state
   * @param {boolean} [again] whether to draw what has not changed too
   */
  draw({ view, list, sums, busy, listError, moreError }, again = false) {
    const whole = sums && sums.instant === list?.instant ? sums.credits : null;
    const last = { list: this.#list, whole: this.#whole, busy: this.#busy, isShared: this.#isShared };
    [this.#list, this.#whole, this.#busy] = [list, whole, busy];
    const shown = last.list?.items.length ?? 0;
    const grown = !again && shown > 0 && list !== last.list && list?.items[0] === last.list.items[0];
    const focused = document.activeElement === this.more;
    const kind = kindOf(view);
    const columns = kind.columns(list?.view ?? view, list?.items ?? [], whole);
    const share = columns.find(({ isShared }) => isShared !== undefined);
    this.#isShared = share?.isShared;
    // The API has no answer for a range before its start; its first year is 1900.
    const isFuture = !list && listError?.fields.includes("since") && view.from >= "1900";

    this.notice.draw(isFuture ? null : listError);
    this.trouble.draw(moreError);
    if (isFuture) this.#drawEmpty(["This range has not begun yet."]);
    else if (!list) this.#drawTable(kind, view, columns, busy ? ghostRows(columns) : []);
    else if (again || (list !== last.list && !grown)) this.#drawList(kind, list, columns);
    else {
      if (grown) this.#body.append(...rowsOf(list, columns, shown));
      // More rows may show that there are no shares.
      if (share && (whole !== last.whole || share.isShared !== last.isShared)) this.#drawShares(list, share);
    }
    const words = list ? `${integer(list.items.length)} of ${counted(list.count, kind.noun(view))}` : "";
    this.count.textContent = list?.items.length ? words : "";
    this.more.hidden = !list || list.page * BigInt(LIMIT) >= list.count;
    // After the last page the button is hidden: move its focus to the first new row.
    if (grown && focused && this.more.hidden) focusRow(this.#body.rows[shown]);
    if (busy === "list") announce("Loading");
    else if (grown || (last.busy === "list" && !listError)) announce(words);
  }

  #drawList(kind, list, columns) {
    if (list.items.length) return this.#drawTable(kind, list.view, columns, rowsOf(list, columns, 0));
    this.#drawEmpty(kind.emptiness(list.view, list.account));
  }

  #drawEmpty(sentences) {
    this.#body = null;
    const lines = sentences.map((line, index) => element("p", { class: index ? "hint" : null }, line));
    this.parts.table.replaceChildren(element("div", { class: "card empty" }, ...lines));
  }

  /** Draw a table with these rows, or none without rows. A row keeps the focus if the new table has it. */
  #drawTable(kind, view, columns, rows) {
    const focused = this.#body?.contains(document.activeElement) && document.activeElement.closest("tr").dataset.id;
    const { table, body } = tableOf(kind.caption(view), columns, { class: `listed ${kind.resource}` });
    body.append(...rows);
    this.#body = body;
    this.parts.table.replaceChildren(...(rows.length ? [table] : []));
    if (focused) this.focus(focused);
  }

  #drawShares(list, { cell }) {
    for (const [index, row] of [...(this.#body?.rows ?? [])].entries()) {
      row.querySelector(".share").replaceChildren(cell(list.items[index], index));
    }
  }

  /** Focus the row with an id; return whether there is one. */
  focus(id) {
    const row = [...(this.#body?.rows ?? [])].find(({ dataset }) => dataset.id === id);
    if (row) focusRow(row);
    return Boolean(row);
  }
}

function rowsOf({ items }, columns, start) {
  return items.slice(start).map((item, index) => {
    const row = rowOf(columns, item, start + index);
    row.dataset.id = item.account_id ?? item.id ?? "";
    return row;
  });
}

/** Focus the link of a row, or its first cell. */
function focusRow(row) {
  const link = row.querySelector("a");
  if (!link) row.cells[0].tabIndex = -1;
  (link ?? row.cells[0]).focus();
}
