/** The kinds of list of credits spent: by account, what changed most, and by model, provider, source or agent type. */

import { BREAKDOWNS, addressOf, isFilter, within } from "./address.js";
import { element, isolated, nothing } from "./elements.js";
import { capitalized, change, dollars, integer, percent, ratio, relativeChange, signed, signedDollars } from "./format.js";
import { hiding, naming, sought } from "./tab.js";

const credits = (item) => item.total_credits_deducted_cents;
const before = (item) => item.previous_credits_deducted_cents;
/** @returns {[bigint, bigint, bigint]} */
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

/** Return whether a view has a previous window: one without a start has none. */
export function compares(view) {
  return view.period !== "all";
}

/** Return the parameters of a window and its filters, and of its comparison where it has a previous one. */
function compared(view) {
  return { ...view.window, ...view.filters, ...(compares(view) && { compare: "previous" }) };
}

/** Return a text with a bar before it. */
function barred(text, size, largest, kind = null) {
  // Unlike a shape in a drawing, a box has its edges on whole pixels.
  const box = element("span", { class: kind });
  box.style.width = `${(ratio(size, largest) * 100).toFixed(2)}%`;
  return element("div", {}, element("span", { class: "bar", "aria-hidden": "true" }, box), element("span", {}, text));
}

/** Return the columns of the credits of a window, and of the share that each item has of them. */
function spent(view, items, whole) {
  // With refunds the other items may be more than the whole together: their shares would add up to more than 100 %.
  const isShared = whole > 0n && items.reduce((sum, item) => (credits(item) > 0n ? sum + credits(item) : sum), 0n) <= whole;
  const reason = whole === 0n ? "no share, as the sum is 0" : "no share, because of refunds";
  const share = (item) => {
    if (whole === null) return nothing("not loaded yet");
    const text = (isShared ? percent(credits(item), whole) : null) ?? nothing(reason);
    // Among the accounts that were found there is no largest of all, to which a bar is relative.
    return view.q ? text : barred(text, credits(item), credits(items[0]));
  };
  const column = { label: "Share", kind: "number share", isShared, cell: share };
  return [CREDITS, DOLLARS, ...(compares(view) ? [CHANGE] : []), column, EVENTS];
}

/** Return the columns of an account. The link of its name opens it. */
function accountOf(view) {
  const link = ({ account_id: id, ...account }) => {
    const { name, standIn } = naming(id, account);
    const address = addressOf({ ...view, account: id, show: null, q: null });
    return element("a", { href: address, class: standIn ? "plain" : null, title: name }, isolated(name));
  };
  const email = ({ account_id: id, ...account }) => {
    if (hiding.get()) return nothing("hidden", "••••••");
    const { address } = naming(id, account);
    return address === null ? nothing("no address") : isolated(address, { title: address });
  };
  return [
    { label: "Account", kind: "name", header: true, cell: link },
    { label: "Address", kind: "address", cell: email },
  ];
}

/**
 * The accounts by credits spent, all or the ones that are searched for.
 * @type {import("./state.js").Kind}
 */
export const SPENDERS = {
  resource: "rollup",
  noun: () => "account",
  caption: () => "Accounts by credits spent, most first",
  queryOf: (view) => ({ ...compared(view), ...(view.q && { q: sought(view.q) }) }),
  columns(view, items, whole) {
    const rank = { label: "Rank", kind: "rank", cell: (_, index) => integer(BigInt(index + 1)) };
    // Among the accounts that were found a rank would be another number.
    return [...(view.q ? [] : [rank]), ...accountOf(view), ...spent(view, items, whole)];
  },
  emptiness(view) {
    if (view.q) return [`No account that spent credits${within(view)} has “${view.q}” in its name or an address.`];
    return [`No account has spent credits${within(view)}.`, ...(compares(view) ? [SHORTER] : [])];
  },
};

/**
 * The accounts whose spending changed, the largest change first.
 * @type {import("./state.js").Kind}
 */
export const CHANGES = {
  resource: "changes",
  noun: () => "account",
  caption: () => "Accounts by change of credits spent, largest first",
  queryOf: (view) => ({ ...view.window, ...view.filters }),
  columns(view, items) {
    const changed = (item) => item.change_credits_deducted_cents;
    const size = (item) => (changed(item) < 0n ? -changed(item) : changed(item));
    const bar = (item) => barred(signed(changed(item)), size(item), size(items[0]), changed(item) < 0n ? "below" : null);
    return [
      ...accountOf(view),
      { label: "Before", kind: "number before", cell: (item) => integer(before(item)) },
      { label: "Now", kind: "number now", cell: (item) => integer(credits(item)) },
      { label: "Change", kind: "number credits share", cell: bar },
      { label: "Dollars", kind: "number dollars", cell: (item) => signedDollars(changed(item)) },
      { label: "Change (%)", kind: "number change", cell: (item) => relativeChange(...numbers(item)) ?? nothing("no percentage") },
    ];
  },
  emptiness(view) {
    if (!compares(view)) return ["“All” has no earlier period to compare with.", "Choose another period."];
    return [`No account has spent credits${within(view)} or in the period before.`, SHORTER];
  },
};

/**
 * What the credits were spent on, of all accounts or of one.
 * @type {import("./state.js").Kind}
 */
export const BREAKDOWN = {
  resource: "breakdown",
  noun: (view) => BREAKDOWNS[view.show],
  caption: (view) => `Credits by ${BREAKDOWNS[view.show]}, most first`,
  queryOf: (view) => ({ by: view.show, ...(view.account && { account_id: view.account }), ...compared(view) }),
  columns(view, items, whole) {
    const noun = BREAKDOWNS[view.show];
    const key = ({ key: text }) => {
      const shown = text ? isolated(text) : element("span", { class: "hint" }, text === null ? `no ${noun}` : "(empty)");
      const filters = { ...view.filters, [view.show]: text ?? "" };
      // Who uses it, or the events of the account that do
      const href = isFilter(text ?? "") ? addressOf({ ...view, show: null, filters }) : null;
      return element("a", { href, title: text || null }, shown);
    };
    const sum = (label, kind, column) => ({ label, kind: `number ${kind}`, cell: (item) => integer(item[column]) });
    return [
      { label: capitalized(noun), kind: "name", header: true, cell: key },
      ...spent(view, items, whole),
      sum("Input tokens", "input", "input_tokens"),
      sum("Cached input", "cached", "cached_input_tokens"),
      sum("Output tokens", "output", "output_tokens"),
      sum("Tool calls", "calls", "tool_call_count"),
    ];
  },
  emptiness: (view) => [`Nothing was spent${within(view)}.`, ...(compares(view) ? [SHORTER] : [])],
};
