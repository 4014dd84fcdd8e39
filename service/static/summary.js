/** The sums of a window, how they changed, and its days: the part of the page above the lists. */

import { requestJson } from "./api.js";
import { chartOf } from "./chart.js";
import { button, element } from "./elements.js";
import { change, days, dollars, integer, lastDayBefore, previousWindow } from "./format.js";
import { attempt, removeNotice } from "./list.js";
import { showReceipt } from "./receipts.js";

export class Summary {
  /** The view whose window is shown or loading; null before the first. */
  view = null;
  asOf = null;
  since = null;
  /** The days of the window; null until they are loaded. */
  days = null;
  /** The sums of the window and of the previous one: `{credits, events}`, or null. */
  sums = null;
  before = null;
  /** The number of accounts in the window, and its instant: `{count, asOf}`; null before the first. */
  accounts = null;
  /** The account of the view as the API names it; null where there is none, undefined until it is known. */
  account = undefined;
  #previous = null;

  /** @param {HTMLElement} section */
  constructor(section) {
    this.place = section.querySelector(".summary");
    const part = (tag, name) => element(tag, { class: name });
    this.parts = { figures: part("dl", "figures"), note: part("p", "hint note"), chart: part("div", "chart") };
    this.place.append(element("div", {}, this.parts.figures, this.parts.note), this.parts.chart);
  }

  /** Return whether a view has the window that is shown or loading. */
  isOf(view) {
    const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
    return this.view !== null && this.view.account === view.account && same(view.window, this.view.window);
  }

  /** Show that a view is loading, and remove the sums of another view. */
  start(view) {
    if (!this.isOf(view)) this.clear();
    this.view = view;
    this.place.hidden = false;
    this.#drawFigures();
  }

  /**
   * Load the days of a view, and the sums of the previous window, unless they are loaded.
   * @param {string|null} since the start of the window
   * @param {string|null} asOf its end
   * @returns {Promise<boolean>} whether they are shown
   */
  async load(view, since, asOf, signal) {
    const isLoaded = this.days !== null && this.asOf === asOf;
    const loaded = isLoaded || (await attempt(this.parts.chart, signal, () => this.#request(view, since, asOf, signal)));
    if (signal.aborted) return false;
    // The sums of another instant do not go with the list.
    if (!loaded) Object.assign(this, { asOf: null, days: null, sums: null, before: null });
    this.#drawFigures();
    return loaded;
  }

  async #request(view, since, asOf, signal) {
    const account = view.account && { account_id: view.account };
    // The API has no windows that end before 1970.
    const previous = since >= "1970" && asOf ? previousWindow(view.period, since, asOf) : null;
    const [now, before] = await Promise.all([
      requestJson("days", { ...account, ...view.window, ...(asOf && { as_of: asOf }) }, signal),
      previous && requestJson("days", { ...account, ...previous }, signal),
    ]);
    Object.assign(this, { view, since, asOf: now.asOf, days: now.body.days, account: now.body.account });
    Object.assign(this, { sums: sumsOf(now), before: before && sumsOf(before), sources: now.sources });
    this.#previous = previous;
    this.#drawChart();
  }

  clear() {
    const nothing = { view: null, asOf: null, since: null, days: null, sums: null, before: null, accounts: null };
    Object.assign(this, nothing, { account: undefined });
    this.#previous = null;
    for (const part of Object.values(this.parts)) part.replaceChildren();
  }

  #drawFigures() {
    const { sums, before } = this;
    const figure = (term, value, previous, aside = "") => {
      const changed =
        value !== null && previous != null ? element("span", { class: "change" }, change(value, previous, before.events)) : "";
      const hint = element("span", { class: "hint" }, aside, aside && changed ? " · " : "", changed);
      return element("div", {}, element("dt", {}, term), element("dd", {}, value === null ? "–" : integer(value), hint));
    };
    const credits = sums?.credits ?? null;
    const figures = [
      figure("Credits", credits, before?.credits, credits === null ? "" : dollars(credits)),
      figure("Events", sums?.events ?? null, before?.events),
    ];
    if (this.accounts?.asOf === this.asOf) figures.push(figure("Accounts", this.accounts.count));
    this.parts.figures.replaceChildren(...figures);
    this.parts.note.textContent = before ? `Compared with ${this.#previousDays()}` : "";
  }

  /** Say the previous window. One of whole days earlier ends at a time of day, one before an open range begins at it. */
  #previousDays() {
    const { since, as_of: end } = this.#previous;
    const time = (word, edge) => (edge.slice(11, 16) === "00:00" ? "" : `, ${word} ${edge.slice(11, 16)} UTC`);
    return `${days(since.slice(0, 10), lastDayBefore(end))}${time("from", since)}${time("until", end)}`;
  }

  #drawChart() {
    const sql = button("SQL", () => showReceipt("Credits by day", this.#receipts()), { class: "quiet sql", "aria-label": "SQL of the days" });
    removeNotice(this.parts.chart);
    this.parts.chart.replaceChildren(...chartOf(this.days, this.asOf, sql));
  }

  /** The files of the days, for the window and for the previous one. */
  #receipts() {
    const edges = [{ since: this.since, until: this.asOf }];
    if (this.#previous) edges.push({ since: this.#previous.since, until: this.#previous.as_of });
    const account_id = this.view.account ?? "";
    return edges.flatMap((window) => this.sources.map((source) => ({ source, values: { account_id, ...window } })));
  }
}

function sumsOf({ body }) {
  const sum = (name) => body.days.reduce((total, day) => total + day[name], 0n);
  return { credits: sum("total_credits_deducted_cents"), events: sum("event_count") };
}
