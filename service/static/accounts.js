/** The list of all accounts, most credits first. */

import { drawing, element, isolated, nothing, rowOf } from "./elements.js";
import { integer, percent, ratio } from "./format.js";
import { PERIODS } from "./fragment.js";
import { hiding, naming } from "./naming.js";

const COLUMNS = [
  { label: "Rank", kind: "rank" },
  { label: "Account", kind: "name" },
  { label: "Address", kind: "address" },
  { label: "Credits", kind: "number credits" },
  { label: "Dollars", kind: "number dollars" },
  { label: "Share", kind: "share" },
  { label: "Events", kind: "number events" },
];

/**
 * Describe the list for `Report`.
 * @param {(credits: bigint) => string} dollars
 * @param {(id: string) => void} open
 */
export function accountsKind(dollars, open) {
  return {
    resource: "rollup",
    caption: "Accounts by credits spent, most first",
    columns: COLUMNS,
    noun: "account",
    items: (body) => body.rows,
    id: (account) => account.account_id,
    empty: (period) => emptyOf("No account has spent credits", period),
    figures: ({ credits, events, count }) => [
      ["Credits", known(credits, integer), known(credits, dollars, "")],
      ["Events", known(events, integer), ""],
      ["Accounts", known(count, integer), ""],
    ],
    row: (account, index) => rowOfAccount(account, index, dollars, open),
    complete: (row, account, report) => {
      const largest = report.items[0].total_credits_deducted_cents;
      row.querySelector(".share").replaceChildren(...shareOf(account.total_credits_deducted_cents, report.credits, largest));
    },
  };
}

/** Say that nothing happened, and where something may have. */
export function emptyOf(sentence, period) {
  const advice = period === "all" ? [] : ["Days begin at 00:00 UTC. A longer period may show more."];
  return [
    element("p", {}, `${sentence} ${PERIODS[period]}.`),
    ...advice.map((text) => element("p", { class: "hint" }, text)),
  ];
}

/** Return a figure in words, or a placeholder of its height until it is known. */
export function known(value, words, placeholder = "–") {
  return value === null ? placeholder : words(value);
}

function rowOfAccount(account, index, dollars, open) {
  const { account_id: id, total_credits_deducted_cents: credits } = account;
  const { name, address, plain } = naming(id, account);
  const opener = element("button", { type: "button", class: plain ? "plain" : null, title: name }, isolated(name));
  const row = rowOf(
    COLUMNS,
    [
      integer(BigInt(index + 1)),
      opener,
      addressOf(address),
      integer(credits),
      dollars(credits),
      nothing("not known yet"),
      integer(account.event_count),
    ],
    1,
  );
  // The whole row is a target for a pointer, unless it selects text; the button is the one for everybody else.
  row.addEventListener("click", () => {
    if (getSelection().isCollapsed) open(id);
  });
  return row;
}

function addressOf(address) {
  if (hiding.get()) return nothing("hidden", "••••••");
  return address === null ? nothing("no address") : isolated(address, { title: address });
}

/** The bar is drawn against the largest account's, the words are the share of all credits of the window. */
function shareOf(credits, whole, largest) {
  const words = percent(credits, whole);
  if (words === null) return [nothing("no share of nothing")];
  const width = `${(ratio(credits, largest) * 100).toFixed(2)}%`;
  const bar = drawing("svg", { class: "bar", "aria-hidden": "true" }, drawing("rect", { width, height: "100%", rx: "2" }));
  return [bar, element("span", {}, words)];
}
