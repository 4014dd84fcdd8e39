/** What a report shows: its sums, its days, its table, and words where something was refused. */

import { chartOf } from "./chart.js";
import { button, element, ghostRows, tableOf } from "./elements.js";
import { counted, integer } from "./format.js";

/**
 * What differs between the list of accounts and the list of an account's events.
 * @typedef {object} Kind
 * @property {"rollup"|"events"} resource
 * @property {(body: object) => object[]} items the rows of an answer
 * @property {(item: object) => string} id
 * @property {string} noun
 * @property {string} caption
 * @property {{label: string, kind: string}[]} columns
 * @property {(item: object, index: number) => HTMLTableRowElement} row
 * @property {(row: HTMLTableRowElement, item: object, listing: Listing) => void} [complete] called when the sums are known
 * @property {(period: string) => Node[]} empty what to say when nothing happened in the period
 * @property {(listing: Listing) => string[][]} figures term, value and what stands beside it
 * @property {(body: object) => void} [answered] what else to do with the first page
 */

export class Listing {
  /** What was asked, beside page and limit. */
  query = null;
  items = [];
  /** How many items there are, shown or not; null until it is known. */
  count = null;
  /** The days of the window, and their sums; null until they are known. */
  days = null;
  credits = null;
  events = null;

  /**
   * @param {HTMLElement} root
   * @param {Kind} kind
   * @param {(credits: bigint) => string} dollars
   */
  constructor(root, kind, dollars) {
    Object.assign(this, { root, kind, dollars });
    this.parts = Object.fromEntries([...root.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
  }

  /** Draw again what is known. */
  draw() {
    this.drawSummary();
    this.drawFoot();
    if (!this.items.length) {
      const lines = element("div", { class: "card empty" }, ...this.kind.empty(this.query.period));
      this.parts.table.replaceChildren(lines);
      return;
    }
    const focused = this.body?.contains(document.activeElement) && document.activeElement.closest("tr").dataset.id;
    this.#drawTable();
    this.drawRows(0);
    if (focused) this.focusRow(focused);
  }

  drawSummary() {
    const figures = this.kind.figures(this).map(([term, value, beside]) =>
      element("div", {}, element("dt", {}, term), element("dd", {}, value, element("span", { class: "hint" }, beside))),
    );
    this.parts.summary.hidden = false;
    this.parts.figures.replaceChildren(...figures);
    if (this.days) this.parts.chart.replaceChildren(...chartOf(this.days, this.dollars));
  }

  /** Draw something of the size of what is being waited for. */
  drawGhosts() {
    this.drawSummary();
    this.#drawTable();
    this.body.append(...ghostRows(this.kind.columns));
  }

  /** Add the rows of the items from an index on. */
  drawRows(from) {
    for (const [index, item] of [...this.items.entries()].slice(from)) {
      const row = this.kind.row(item, index);
      row.dataset.id = this.kind.id(item);
      this.body.append(row);
    }
    this.complete(from);
  }

  /** Write into the rows what depends on the sums, once they are known. */
  complete(from) {
    if (this.credits === null || !this.kind.complete) return;
    for (const [index, item] of [...this.items.entries()].slice(from)) {
      this.kind.complete(this.body.rows[index], item, this);
    }
  }

  drawFoot() {
    this.parts.count.textContent = this.items.length ? this.counted() : "";
    this.parts.more.hidden = !this.hasMore();
  }

  /** Say how much of the list is shown. */
  counted() {
    return `${integer(BigInt(this.items.length))} of ${counted(this.count, this.kind.noun)}`;
  }

  /** Put the focus on the row of an item; return whether there is one. */
  focusRow(id) {
    const row = [...(this.body?.rows ?? [])].find(({ dataset }) => dataset.id === id);
    const target = row?.querySelector("button") ?? row?.cells[0];
    if (target && target.localName !== "button") target.tabIndex = -1;
    target?.focus();
    return Boolean(row);
  }

  /** Say in a part why there is nothing new in it, with a button to try again. */
  refuse(part, sentence, again) {
    const place = this.parts[part];
    if (this.count === null) {
      this.parts.summary.hidden = true;
      this.parts.table.replaceChildren();
    }
    // The button that was pressed stays, and keeps the focus; a new paragraph is read out again.
    const words = element("p", {}, sentence);
    const said = place.querySelector(".notice");
    if (said) said.firstChild.replaceWith(words);
    else place.replaceChildren(element("div", { class: "notice", role: "alert" }, words, button("Try again", again)));
  }

  unsay(part) {
    const said = this.parts[part].querySelector(".notice");
    if (said?.contains(document.activeElement)) this.root.querySelector("h2").focus();
    said?.remove();
  }

  /** Take everything away. */
  erase() {
    for (const part of ["notice", "chart", "table", "trouble", "count"]) this.parts[part].replaceChildren();
    this.parts.more.hidden = true;
  }

  #drawTable() {
    const { table, body } = tableOf(this.kind.caption, this.kind.columns, { class: `listed ${this.kind.resource}` });
    this.body = body;
    this.parts.table.replaceChildren(table);
  }
}
