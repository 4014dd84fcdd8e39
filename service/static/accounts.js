/** The list of all accounts, most credits first. */

import { drawing, element, isolated, nothing, rowOf } from "./elements.js";
import { PERIODS, dollars, hiding, integer, naming, percent, ratio } from "./format.js";
import { List } from "./list.js";

const COLUMNS = [
  { label: "Rank", kind: "rank" },
  { label: "Account", kind: "name" },
  { label: "Address", kind: "address" },
  { label: "Credits", kind: "number credits" },
  { label: "Dollars", kind: "number dollars" },
  { label: "Share", kind: "share" },
  { label: "Events", kind: "number events" },
];

export const list = new List(document.getElementById("accounts"), {
  resource: "rollup",
  rows: "rows",
  noun: "account",
  caption: "Accounts by credits spent, most first",
  columns: COLUMNS,
});

/** Return an account that is in the list; undefined when it is not. */
export function accountOf(id) {
  return list.items.find(({ account_id }) => account_id === id);
}

/** Return the fragment that shows a period, and an account unless it is null. */
export function addressOf(period, id) {
  return `#${new URLSearchParams({ period, ...(id && { account: id }) })}`;
}

export function title() {
  return `Top spenders ${PERIODS[list.query.period]}`;
}

/** Draw what is loaded, or placeholders. */
export function draw() {
  drawSums();
  if (list.count === null) return list.drawGhosts();
  list.drawFoot();
  if (!list.items.length) return list.drawEmpty("No account has spent credits");
  list.drawTable(list.items.map(rowOfAccount));
  drawShares(0);
}

/** Draw the days and what is computed from them. */
export function drawDays() {
  drawSums();
  list.drawChart();
  drawShares(0);
}

/** Draw the items from an index on, and leave the rows above as they are. */
export function drawMore(from) {
  list.addRows(list.items.slice(from).map((account, index) => rowOfAccount(account, from + index)));
  list.drawFoot();
  drawShares(from);
}

function drawSums() {
  list.drawSums({ Credits: list.credits, Events: list.events, Accounts: list.count });
}

function rowOfAccount(account, index) {
  const { account_id: id, total_credits_deducted_cents: credits } = account;
  const { name, address, standIn } = naming(id, account);
  const cells = [
    integer(BigInt(index + 1)),
    element("a", { href: addressOf(list.query.period, id), class: standIn ? "plain" : null, title: name }, isolated(name)),
    emailOf(address),
    integer(credits),
    dollars(credits),
    nothing("not loaded yet"),
    [integer(account.event_count), element("span", { class: "unit" }, account.event_count === 1n ? " event" : " events")],
  ];
  const row = rowOf(COLUMNS, cells, 1);
  row.dataset.id = id;
  return row;
}

function emailOf(address) {
  if (hiding.get()) return nothing("hidden", "••••••");
  return address === null ? nothing("no address") : isolated(address, { title: address });
}

/** Draw the shares from an index on, once the sum of all accounts is known. */
function drawShares(from) {
  if (list.credits === null) return;
  for (const [index, row] of list.tableRows().entries()) {
    if (index >= from) row.querySelector(".share").replaceChildren(...shareOf(list.items[index]));
  }
}

/** The bar compares with the largest account, the text with all accounts: no text where refunds make that no share. */
function shareOf({ total_credits_deducted_cents: credits }) {
  const largest = list.items[0].total_credits_deducted_cents;
  const text = largest > list.credits ? null : percent(credits, list.credits);
  const width = `${(ratio(credits, largest) * 100).toFixed(2)}%`;
  const bar = drawing("svg", { class: "bar", "aria-hidden": "true" }, drawing("rect", { width, height: "100%", rx: "2" }));
  return [bar, text === null ? nothing("no share, because of refunds") : element("span", {}, text)];
}
