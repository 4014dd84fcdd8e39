/** One list of the API, page by page as of one instant, with its days. */

import { ask } from "./api.js";
import { onPress } from "./elements.js";
import { Listing } from "./listing.js";

const LIMIT = 100;

export class Report extends Listing {
  /** What is shown is as of this instant: every later question about it carries it. */
  pin = null;
  /** The first instant of the window; null when it has none. */
  since = null;
  #page = 0n;
  #asking = new AbortController();

  /**
   * @param {HTMLElement} root
   * @param {import("./listing.js").Kind} kind
   * @param {object} page dollars(credits), say(text), changed(), refused(refusal): true when the page has dealt with it
   */
  constructor(root, kind, page) {
    super(root, kind, page.dollars);
    this.page = page;
    onPress(this.parts.more, () => this.more());
  }

  /**
   * Ask for the first page, then for the days as of the same instant.
   * What is shown stays until the answer is there, unless it answers another question.
   */
  async load(query, pin = null) {
    if (!this.#asks(query)) this.clear();
    const signal = this.#anew();
    this.query = query;
    this.root.ariaBusy = "true";
    if (this.count === null) this.drawGhosts();
    this.page.changed();
    this.#say("Loading");
    await this.#attempt(signal, "notice", () => this.load(query, pin), async () => {
      const { body, asOf, since } = await ask(this.kind.resource, { ...query, as_of: pin, limit: LIMIT }, signal);
      Object.assign(this, { pin: asOf, since, count: body.total_count, items: this.kind.items(body) });
      this.#page = body.page;
      this.kind.answered?.(body);
      this.draw();
      this.page.changed();
      this.#say(this.counted());
      await this.#loadDays(signal);
    });
    if (!signal.aborted) this.root.ariaBusy = null;
  }

  /** Ask for the next page of the same list. */
  async more() {
    const signal = this.#asking.signal;
    await this.#attempt(signal, "trouble", () => this.more(), async () => {
      const page = this.#page + 1n;
      const { body } = await ask(this.kind.resource, { ...this.query, as_of: this.pin, limit: LIMIT, page }, signal);
      const shown = this.items.length;
      this.items.push(...this.kind.items(body));
      this.#page = page;
      this.drawRows(shown);
      // The button goes with the last page: the first new row takes the focus from it.
      const focused = document.activeElement === this.parts.more;
      this.drawFoot();
      if (focused && !this.hasMore()) this.focusRow(this.kind.id(this.items[shown]));
      this.#say(this.counted());
    });
  }

  hasMore() {
    return this.#page * BigInt(LIMIT) < this.count;
  }

  /** Return whether the answer to a question is here, or on its way. */
  has(query) {
    return this.#asks(query) && (this.count !== null || this.isAsking());
  }

  isAsking() {
    return this.root.ariaBusy === "true";
  }

  /** Forget everything, and stop asking. */
  clear() {
    this.#anew();
    this.root.ariaBusy = null;
    Object.assign(this, { pin: null, query: null, since: null, items: [], count: null });
    Object.assign(this, { days: null, credits: null, events: null });
    this.erase();
  }

  async #loadDays(signal) {
    const { period, account_id } = this.query;
    await this.#attempt(signal, "chart", () => this.#loadDays(signal), async () => {
      const { body } = await ask("days", { period, account_id, as_of: this.pin }, signal);
      this.days = body.days;
      this.credits = body.days.reduce((sum, day) => sum + day.total_credits_deducted_cents, 0n);
      this.events = body.days.reduce((sum, day) => sum + day.event_count, 0n);
      this.drawSummary();
      this.complete(0);
      this.page.changed();
    });
  }

  /** Do something that may be refused; a part says so then. */
  async #attempt(signal, part, again, act) {
    try {
      await act();
      if (!signal.aborted) this.unsay(part);
    } catch (error) {
      // A newer question has been asked: this one's answer no longer matters.
      if (signal.aborted) return;
      if (error.status === undefined) throw error;
      if (!this.page.refused(error)) this.refuse(part, error.message, again);
    }
  }

  #asks(query) {
    return JSON.stringify(query) === JSON.stringify(this.query);
  }

  #anew() {
    this.#asking.abort();
    this.#asking = new AbortController();
    return this.#asking.signal;
  }

  /** Only what is seen is read out. */
  #say(text) {
    if (!this.root.hidden) this.page.say(text);
  }
}
