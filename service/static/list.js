/** One list of the API: its data, and the section of the page with its sums, chart, table and notices. */

import { chartOf } from "./chart.js";
import { button, element, ghostRows, tableOf } from "./elements.js";
import { PERIODS, counted, dollars, integer } from "./format.js";

export const LIMIT = 100;

export class List {
  /** The parameters of the list, without those of a page; null before the first request. */
  query = null;
  /** The instant of the first answer. Later requests send it as `as_of`, so that all answers show one instant. */
  asOf = null;
  /** The start of the window; null when it has none. */
  since = null;
  items = [];
  /** The number of items in the window; null until the first answer. */
  count = null;
  /** The days of the window and their sums; null until they are loaded. */
  days = null;
  credits = null;
  events = null;
  #page = 0n;
  #body = null;
  #requests = new AbortController();

  /**
   * @param {HTMLElement} section its elements with data-part are the parts
   * @param {{resource: "rollup"|"events", rows: string, noun: string, caption: string, columns: object[]}} description
   *   `rows` is the key of the items in an answer
   */
  constructor(section, description) {
    Object.assign(this, { section, ...description });
    this.parts = Object.fromEntries(
      [...section.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]),
    );
  }

  /** Begin to load a query: abort other requests, and forget the data of another query. Return the signal to abort. */
  start(query) {
    if (!this.#isOf(query)) this.clear();
    this.#requests.abort();
    this.#requests = new AbortController();
    this.query = query;
    this.section.ariaBusy = "true";
    return this.signal;
  }

  /** End what `start` began. */
  finish() {
    this.section.ariaBusy = null;
  }

  /** Abort the requests under way, and forget the data. */
  clear() {
    this.#requests.abort();
    this.finish();
    Object.assign(this, { query: null, asOf: null, since: null, items: [], count: null });
    Object.assign(this, { days: null, credits: null, events: null });
    for (const part of ["notice", "chart", "table", "trouble", "count"]) this.parts[part].replaceChildren();
    this.parts.more.hidden = true;
  }

  setFirstPage({ body, asOf, since }) {
    Object.assign(this, { asOf, since, count: body.total_count, items: body[this.rows] });
    this.#page = body.page;
  }

  addPage({ body }) {
    this.items.push(...body[this.rows]);
    this.#page = body.page;
  }

  setDays({ body }) {
    const sum = (name) => body.days.reduce((total, day) => total + day[name], 0n);
    this.days = body.days;
    this.credits = sum("total_credits_deducted_cents");
    this.events = sum("event_count");
  }

  /** The signal that aborts the requests under way. */
  get signal() {
    return this.#requests.signal;
  }

  get nextPage() {
    return this.#page + 1n;
  }

  hasMore() {
    return this.#page * BigInt(LIMIT) < this.count;
  }

  isLoading() {
    return this.section.ariaBusy === "true";
  }

  /** Return whether the data of a query is loaded or on its way. */
  has(query) {
    return this.#isOf(query) && (this.count !== null || this.isLoading());
  }

  #isOf(query) {
    return JSON.stringify(query) === JSON.stringify(this.query);
  }

  /** Write how many items are shown. */
  counted() {
    return `${integer(BigInt(this.items.length))} of ${counted(this.count, this.noun)}`;
  }

  /**
   * Draw the sums above the table.
   * @param {Object<string, bigint|null>} sums null while a sum is not known
   */
  drawSums(sums) {
    const figures = Object.entries(sums).map(([term, value]) => {
      // The empty hint keeps the height of the dollars.
      const hint = element("span", { class: "hint" }, term === "Credits" && value !== null ? dollars(value) : "");
      return element("div", {}, element("dt", {}, term), element("dd", {}, value === null ? "–" : integer(value), hint));
    });
    this.parts.summary.hidden = false;
    this.parts.figures.replaceChildren(...figures);
  }

  drawChart() {
    this.removeNotice("chart");
    this.parts.chart.replaceChildren(...chartOf(this.days, this.asOf));
  }

  /** Draw a table with these rows. A row keeps the focus if the new table has it. */
  drawTable(rows) {
    const focused = this.#body?.contains(document.activeElement) && document.activeElement.closest("tr").dataset.id;
    const { table, body } = tableOf(this.caption, this.columns, { class: `listed ${this.resource}` });
    body.append(...rows);
    this.#body = body;
    this.parts.table.replaceChildren(table);
    if (focused) this.focusRow(this.rowOf(focused));
  }

  /** Draw placeholders of about the size of what is loading. */
  drawGhosts() {
    this.drawTable(ghostRows(this.columns));
  }

  drawEmpty(sentence) {
    const { period } = this.query;
    const lines = [element("p", {}, `${sentence} ${PERIODS[period]}.`)];
    if (period !== "all") {
      lines.push(element("p", { class: "hint" }, "Days begin at 00:00 UTC. A longer period may show more."));
    }
    this.#body = null;
    this.parts.table.replaceChildren(element("div", { class: "card empty" }, ...lines));
  }

  addRows(rows) {
    this.#body.append(...rows);
  }

  drawFoot() {
    this.parts.count.textContent = this.items.length ? this.counted() : "";
    this.parts.more.hidden = !this.hasMore();
  }

  /** Return the row with an id; undefined when it is not in the table. */
  rowOf(id) {
    return this.tableRows().find(({ dataset }) => dataset.id === id);
  }

  tableRows() {
    return [...(this.#body?.rows ?? [])];
  }

  /** Focus the link of a row, or its first cell. */
  focusRow(row) {
    const target = row?.querySelector("a") ?? row?.cells[0];
    if (target && target.localName !== "a") target.tabIndex = -1;
    target?.focus();
  }

  /** Show an error in a part, with a button that tries again. */
  showNotice(part, sentence, again) {
    if (this.count === null) {
      this.parts.summary.hidden = true;
      this.parts.table.replaceChildren();
    }
    const words = element("p", {}, sentence);
    const notice = this.parts[part].querySelector(".notice");
    // Keep the button, which may have the focus; a screen reader reads the new paragraph.
    if (notice) notice.firstChild.replaceWith(words);
    else {
      const box = element("div", { class: "notice", role: "alert" }, words, button("Try again", again));
      this.parts[part].replaceChildren(box);
    }
  }

  removeNotice(part) {
    const notice = this.parts[part].querySelector(".notice");
    if (notice?.contains(document.activeElement)) this.section.querySelector("h2").focus();
    notice?.remove();
  }
}
