/** A list of the API: its items, page after page, and the panel of the page with their table. */

import { ApiError, requestJson } from "./api.js";
import { button, element, ghostRows, rowOf, tableOf } from "./elements.js";
import { counted, integer, previousWindow } from "./format.js";

const LIMIT = 100;

/**
 * The lists are its subclasses. Each has `resource`, `key` (of the items in an answer), `noun` and `caption`; `columns` and
 * `emptiness` (the lines to show without items) for its view; and `queryOf(view)`, its parameters but for those of a page.
 */
export class List {
  /** The view that is shown or loading; null before the first. */
  view = null;
  /** The instant of the first answer, if it had one: later pages are asked for as of it, so that all show one instant. */
  asOf = null;
  /** The start of the window; null when it has none. */
  since = null;
  items = [];
  /** The number of items in the window; null until the first answer. */
  count = null;
  /** The credits of the window, of which the items have their shares; null until they are known. */
  whole = null;
  /** The addresses of the SQL files that the answer came from; none if it had no instant, which their parameters need. */
  sources = [];
  /** Whether the list is to be loaded again, as of now. */
  expired = false;
  #page = 0n;
  #body = null;
  #signal = null;

  /** @param {string} id of the panel */
  constructor(id) {
    this.panel = document.getElementById(id);
    const part = (name) => element("div", { "data-part": name });
    this.parts = { notice: part("notice"), table: part("table"), trouble: part("trouble"), count: element("p") };
    this.more = button("Load more", () => this.loadMore(), { hidden: true });
    const foot = element("div", { class: "more" }, this.parts.count, this.more);
    this.panel.append(this.parts.notice, this.parts.table, this.parts.trouble, foot);
    this.parts.trouble.addEventListener("retry", (event) => {
      event.stopPropagation();
      this.loadMore();
    });
  }

  /** Return whether a view is loaded, as of an instant if one is given. Later pages are loaded until the signal. */
  resume(view, asOf, signal) {
    this.#signal = signal;
    if (this.expired || this.count === null || !this.#isOf(view) || (asOf && asOf !== this.asOf)) return false;
    // An error of another search, or of an instant that is no longer asked for.
    removeNotice(this.parts.notice);
    return true;
  }

  #isOf(view) {
    return this.view !== null && JSON.stringify(this.queryOf(view)) === JSON.stringify(this.queryOf(this.view));
  }

  /**
   * Load the first page. Items of the same view, or of another search, stay until the answer arrives.
   * @param {import("./address.js").View} view
   * @param {string|null} asOf the instant; null for now
   * @param {AbortSignal} signal
   * @returns {Promise<boolean>} whether it is shown, and nothing has replaced it
   */
  async load(view, asOf, signal) {
    if (!this.#isOf({ ...view, q: this.view?.q })) this.clear();
    if (this.count === null) {
      this.view = view;
      this.#drawTable(ghostRows(this.columns));
    }
    announce("Loading");
    return attempt(this.parts.notice, signal, async () => {
      const answer = await requestJson(this.resource, { ...this.queryOf(view), ...(asOf && { as_of: asOf }), limit: LIMIT }, signal);
      this.view = view;
      this.receive(answer);
      this.draw();
      announce(this.counted());
    }, this.count === null && this.parts.table);
  }

  /** Take the first page from an answer. */
  receive({ body, asOf, since, sources }) {
    Object.assign(this, { asOf, since, sources: asOf ? sources : [], expired: false });
    Object.assign(this, { items: body[this.key], count: body.total_count, whole: null });
    this.#page = body.page;
    this.parts.trouble.replaceChildren();
  }

  /** Load the next page. */
  async loadMore() {
    const { items } = this;
    await attempt(this.parts.trouble, this.#signal, async () => {
      const page = { as_of: this.asOf, limit: LIMIT, page: this.#page + 1n };
      const { body } = await requestJson(this.resource, { ...this.queryOf(this.view), ...page }, this.#signal);
      // The list was loaded again meanwhile: its pages are others.
      if (items !== this.items) return;
      const before = items.length;
      const focused = document.activeElement === this.more;
      items.push(...body[this.key]);
      this.#page = body.page;
      this.#body.append(...this.#rowsFrom(before));
      this.#drawFoot();
      announce(this.counted());
      // After the last page the button is hidden: move its focus to the first new row.
      if (focused && this.more.hidden) focusRow(this.#body.rows[before]);
    });
  }

  /** The SQL files that the items came from, with their parameters for all items that are shown. */
  get receipts() {
    const { by, account_id = "", q } = this.queryOf(this.view);
    const account_ids = this.items.map((item) => item.account_id);
    const previous = this.since && this.asOf ? previousWindow(this.view.period, this.since, this.asOf) : {};
    const values = {
      ...{ since: this.since, until: this.asOf, account_id, by, search: q, account_ids },
      ...{ previous_since: previous.since, previous_until: previous.as_of },
      ...{ limit: this.#page * BigInt(LIMIT), offset: 0 },
    };
    return this.sources.map((source) => ({ source, values }));
  }

  clear() {
    Object.assign(this, { view: null, asOf: null, since: null, items: [], count: null, whole: null, sources: [], expired: false });
    for (const part of Object.values(this.parts)) part.replaceChildren();
    this.more.hidden = true;
  }

  /** Draw what is loaded. */
  draw() {
    this.#drawFoot();
    if (this.items.length) return this.#drawTable(this.#rowsFrom(0));
    this.#body = null;
    const lines = this.emptiness.map((line, index) => element("p", { class: index ? "hint" : null }, line));
    this.parts.table.replaceChildren(element("div", { class: "card empty" }, ...lines));
  }

  /** Draw the shares, as the credits of the whole window are known now. */
  drawShares(whole) {
    if (whole === this.whole) return;
    this.whole = whole;
    const share = this.columns.find(({ kind }) => kind === "share");
    if (!share) return;
    for (const [index, row] of [...(this.#body?.rows ?? [])].entries()) {
      row.querySelector(".share").replaceChildren(...share.cell(this.items[index], index));
    }
  }

  /** Draw a table with these rows. A row keeps the focus if the new table has it. */
  #drawTable(rows) {
    const focused = this.#body?.contains(document.activeElement) && document.activeElement.closest("tr").dataset.id;
    const { table, body } = tableOf(this.caption, this.columns, { class: `listed ${this.resource}` });
    body.append(...rows);
    this.#body = body;
    this.parts.table.replaceChildren(table);
    if (focused) this.focus(focused);
  }

  #rowsFrom(start) {
    const { columns } = this;
    return this.items.slice(start).map((item, index) => {
      const row = rowOf(columns, item, start + index);
      row.dataset.id = item.account_id ?? item.id ?? "";
      return row;
    });
  }

  #drawFoot() {
    this.parts.count.textContent = this.items.length ? this.counted() : "";
    this.more.hidden = !this.asOf || this.#page * BigInt(LIMIT) >= this.count;
  }

  /** Write how many items are shown. */
  counted() {
    return `${integer(BigInt(this.items.length))} of ${counted(this.count, this.noun)}`;
  }

  /** Focus the row with an id; return whether there is one. */
  focus(id) {
    const row = [...(this.#body?.rows ?? [])].find(({ dataset }) => dataset.id === id);
    if (row) focusRow(row);
    return Boolean(row);
  }
}

/** Focus the link of a row, or its first cell. */
function focusRow(row) {
  const link = row.querySelector("a");
  if (!link) row.cells[0].tabIndex = -1;
  (link ?? row.cells[0]).focus();
}

/** Have a screen reader read a text. */
export function announce(text) {
  document.getElementById("status").textContent = text;
}

/**
 * Run a request. When it fails, show the error in a place, with a button that sends the event `retry`.
 * @returns {Promise<boolean>} whether it succeeded, and nothing has aborted it
 */
export async function attempt(place, signal, act, emptied = null) {
  try {
    await act();
    if (signal.aborted) return false;
    removeNotice(place);
    return true;
  } catch (error) {
    // A newer request has replaced this one, or the key was refused.
    if (signal.aborted) return false;
    if (!(error instanceof ApiError)) throw error;
    if (emptied) emptied.replaceChildren();
    showNotice(place, error.message);
    return false;
  }
}

function showNotice(place, sentence) {
  const words = element("p", {}, sentence);
  const notice = place.querySelector(".notice");
  // Keep the button, which may have the focus; a screen reader reads the new paragraph.
  if (notice) return notice.firstChild.replaceWith(words);
  const again = button("Try again", () => place.dispatchEvent(new Event("retry", { bubbles: true })));
  place.replaceChildren(element("div", { class: "notice", role: "alert" }, words, again));
}

/** Remove the error from a place, and keep the focus near if it was there. */
export function removeNotice(place) {
  const notice = place.querySelector(".notice");
  if (notice?.contains(document.activeElement)) place.closest("section").querySelector("h2").focus();
  notice?.remove();
}
