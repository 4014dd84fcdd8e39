/** The sums of a window, how they changed, and its days: the part of the page above the lists. */

import { chartOf } from "./chart.js";
import { button, element } from "./elements.js";
import { change, days, dollars, integer, lastDayBefore } from "./format.js";
import { Notice } from "./notices.js";
import { showReceipt, sumsReceipts } from "./receipts.js";
import { compares } from "./spending.js";
import { isNobody } from "./state.js";

export class Summary {
  /** The sums whose days the chart shows. */
  #sums = null;
  /** Whether the reader has opened the numbers by day. */
  #isOpen = false;

  /**
   * @param {HTMLElement} place
   * @param {() => Promise<void>} retry loads the sums again
   */
  constructor(place, retry) {
    const part = (tag, name) => element(tag, { class: name });
    this.place = place;
    this.parts = { figures: part("dl", "figures"), note: part("p", "hint note"), chart: part("div", "chart") };
    this.notice = new Notice(this.parts.chart, "Try again", retry);
    place.replaceChildren(element("div", {}, this.parts.figures, this.parts.note), this.parts.chart);
  }

  /** @param {import("./state.js").State} state only what changed is drawn */
  draw(state) {
    const { view, list, sums, instant, busy, sumsError } = state;
    this.place.hidden = isNobody(view) || (list === null && busy === null);
    // Sums of an earlier instant stay until the new sums are there.
    if (sums === null || sums.instant === instant) this.#drawFigures(state);
    this.notice.draw(sumsError);
    if (sums === this.#sums) return;
    this.#sums = sums;
    const receipts = () => showReceipt("Credits by day", sumsReceipts(state));
    const sql = button("SQL", receipts, { class: "quiet sql", "aria-label": "SQL of the days" });
    const numbers = () => this.parts.chart.querySelector("details");
    this.#isOpen = numbers()?.open ?? this.#isOpen;
    if (sums) this.parts.chart.replaceChildren(...chartOf(sums.days, sums.instant, sql));
    else if (!sumsError) this.parts.chart.replaceChildren();
    if (numbers()) numbers().open = this.#isOpen;
  }

  #drawFigures({ view, busy, sums, previous, accounts }) {
    const figure = (term, value, before, aside = "") => {
      const changed = before === undefined ? "" : element("span", {}, element("span", { class: "unseen" }, "change: "), change(value, before, previous.events));
      const hint = element("span", { class: "hint" }, aside, aside && changed ? " · " : "", changed);
      return element("div", {}, element("dt", {}, term), element("dd", {}, value === undefined ? "–" : integer(value), hint));
    };
    const figures = [
      figure("Credits", sums?.credits, previous?.credits, sums ? dollars(sums.credits) : ""),
      figure("Events", sums?.events, previous?.events),
    ];
    if (sums && accounts?.instant === sums.instant) figures.push(figure("Accounts", accounts.count));
    this.parts.figures.replaceChildren(...figures);
    const awaited = busy && sums === null && compares(view);
    this.parts.note.textContent = previous ? `Compared with ${said(previous)}` : awaited ? "\u00a0" : "";
  }
}

/** Say the previous window. One of whole days earlier ends at a time of day, one before an open range begins at it. */
function said({ since, as_of: end }) {
  const time = (word, edge) => (edge.slice(11, 16) === "00:00" ? "" : `, ${word} ${edge.slice(11, 16)} UTC`);
  return `${days(since.slice(0, 10), lastDayBefore(end))}${time("from", since)}${time("until", end)}`;
}
