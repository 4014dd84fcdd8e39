/** The lists of credits spent: by account, what changed most, and on what they were spent. */

import { BREAKDOWNS, addressOf, said } from "./address.js";
import { drawing, element, isolated, nothing } from "./elements.js";
import { change, dollars, hiding, integer, naming, percent, ratio, relativeChange, signed, signedDollars } from "./format.js";
import { List } from "./list.js";

const credits = (item) => item.total_credits_deducted_cents;
const before = (item) => item.previous_credits_deducted_cents;
const numbers = (item) => [credits(item), before(item), item.previous_event_count];

const CREDITS = { label: "Credits", kind: "number credits", cell: (item) => integer(credits(item)) };
const DOLLARS = { label: "Dollars", kind: "number dollars", cell: (item) => dollars(credits(item)) };
const CHANGE = {
  label: "Change",
  kind: "number change",
  cell: (item) => element("span", { title: `${integer(before(item))} before` }, change(...numbers(item))),
};
const EVENTS = {
  label: "Events",
  kind: "number events",
  cell: ({ event_count: count }) => [integer(count), element("span", { class: "unit" }, count === 1n ? " event" : " events")],
};

const SHORTER = "Days begin at 00:00 UTC. A longer period may show more.";

/** Return the parameters of a window, and of its comparison where it has a previous one. */
function compared(view) {
  return { ...view.window, ...(view.period !== "all" && { compare: "previous" }) };
}

function barOf(size, largest, kind = null) {
  const width = `${(ratio(size, largest) * 100).toFixed(2)}%`;
  const bar = drawing("rect", { class: kind, width, height: "100%", rx: "2" });
  return drawing("svg", { class: "bar", "aria-hidden": "true" }, bar);
}

/** A list whose items have a share of the credits of the window. */
class Spending extends List {
  /** The bar compares with the largest item, the text with the whole: no text where refunds make that no share. */
  get share() {
    const cell = (item) => {
      if (this.whole === null) return [nothing("not loaded yet")];
      const largest = credits(this.items[0]);
      const text = largest > this.whole ? null : percent(credits(item), this.whole);
      const reason = this.whole === 0n ? "no share, as the sum is 0" : "no share, because of refunds";
      const words = text === null ? nothing(reason) : element("span", {}, text);
      return [barOf(credits(item), largest), words];
    };
    return { label: "Share", kind: "share", cell };
  }

  get compares() {
    return this.view.period !== "all";
  }
}

/** A list of accounts. */
class Accounts extends Spending {
  noun = "account";
  key = "rows";

  /** The columns of an account. The link of its name opens it. */
  get account() {
    const link = ({ account_id: id, ...account }) => {
      const { name, standIn } = naming(id, account);
      const address = addressOf({ ...this.view, account: id, show: null, q: null });
      return element("a", { href: address, class: standIn ? "plain" : null, title: name }, isolated(name));
    };
    const email = ({ account_email: text }) => {
      if (hiding.get()) return nothing("hidden", "••••••");
      return text === null ? nothing("no address") : isolated(text, { title: text });
    };
    return [
      { label: "Account", kind: "name", header: true, cell: link },
      { label: "Address", kind: "address", cell: email },
    ];
  }
}

/** The accounts by credits spent, or those of them that are searched for. */
export class Spenders extends Accounts {
  resource = "rollup";
  caption = "Accounts by credits spent, most first";

  queryOf(view) {
    return { ...compared(view), ...(view.q && { q: view.q }) };
  }

  get columns() {
    const rank = { label: "Rank", kind: "rank", cell: (_, index) => integer(BigInt(index + 1)) };
    // Among the accounts that were found a rank would be another number.
    const first = this.view.q ? [] : [rank];
    return [...first, ...this.account, CREDITS, DOLLARS, ...(this.compares ? [CHANGE] : []), this.share, EVENTS];
  }

  get emptiness() {
    if (this.view.q) return [`No account that spent credits ${said(this.view)} has “${this.view.q}” in its name or an address.`];
    const lines = [`No account has spent credits ${said(this.view)}.`];
    return this.compares ? [...lines, SHORTER] : lines;
  }
}

/** The accounts whose spending changed, the largest change first. */
export class Changes extends Accounts {
  resource = "changes";
  caption = "Accounts by change of credits spent, largest first";

  queryOf(view) {
    return view.window;
  }

  /** A window without a start has no previous one. */
  async load(view, asOf, signal) {
    if (view.period !== "all") return super.load(view, asOf, signal);
    this.clear();
    Object.assign(this, { view, asOf, count: 0n });
    this.draw();
    return true;
  }

  get columns() {
    const changed = (item) => item.change_credits_deducted_cents;
    const size = (item) => (changed(item) < 0n ? -changed(item) : changed(item));
    const bar = (item) => {
      const text = relativeChange(...numbers(item));
      const words = text === null ? nothing("no per cent") : element("span", {}, text);
      return [barOf(size(item), size(this.items[0]), changed(item) < 0n ? "below" : null), words];
    };
    return [
      ...this.account,
      { label: "Before", kind: "number before", cell: (item) => integer(before(item)) },
      { label: "Now", kind: "number now", cell: (item) => integer(credits(item)) },
      { label: "Change", kind: "number credits", cell: (item) => signed(changed(item)) },
      { label: "Dollars", kind: "number dollars", cell: (item) => signedDollars(changed(item)) },
      { label: "Change in per cent", kind: "share", cell: bar },
    ];
  }

  get emptiness() {
    if (!this.compares) return ["There is nothing before “All” to compare with.", "Choose another period."];
    return [`No account has spent credits ${said(this.view)}, or in the time before.`, SHORTER];
  }
}

/** What the credits were spent on, of all accounts or of one. */
export class Breakdown extends Spending {
  resource = "breakdown";
  key = "rows";

  queryOf(view) {
    return { by: view.show, ...(view.account && { account_id: view.account }), ...compared(view) };
  }

  get noun() {
    return BREAKDOWNS[this.view.show];
  }

  get caption() {
    return `Credits by ${this.noun}, most first`;
  }

  get columns() {
    const { noun } = this;
    const key = ({ key: text }) => (text ? isolated(text) : element("span", { class: "hint" }, `${text === null ? "no" : "empty"} ${noun}`));
    const sum = (label, kind, column) => ({ label, kind: `number ${kind}`, cell: (item) => integer(item[column]) });
    return [
      { label: `${noun[0].toUpperCase()}${noun.slice(1)}`, kind: "name", header: true, cell: key },
      CREDITS,
      DOLLARS,
      ...(this.compares ? [CHANGE] : []),
      this.share,
      EVENTS,
      sum("Input tokens", "input", "input_tokens"),
      sum("Cached input", "cached", "cached_input_tokens"),
      sum("Output tokens", "output", "output_tokens"),
      sum("Tool calls", "calls", "tool_call_count"),
    ];
  }

  get emptiness() {
    return [`Nothing was spent ${said(this.view)}.`, ...(this.compares ? [SHORTER] : [])];
  }
}
