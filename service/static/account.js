/** One account: its name, its events, newest first, and the balances that staff set by hand. */

import { accountOf } from "./accounts.js";
import { element, isolated, nothing, rowOf, tableOf } from "./elements.js";
import { dollars, integer, local, naming, utc, zone } from "./format.js";
import { List } from "./list.js";

const COLUMNS = [
  { label: `Time (${zone})`, kind: "time" },
  { label: "Model", kind: "model" },
  { label: "Source", kind: "source" },
  { label: "Input tokens", kind: "number input" },
  { label: "Cached input", kind: "number cached" },
  { label: "Output tokens", kind: "number output" },
  { label: "Tool calls", kind: "number calls" },
  { label: "Credits", kind: "number credits" },
  { label: "Dollars", kind: "number dollars" },
];
const GRANT_COLUMNS = [
  { label: `Time (${zone})`, kind: "time" },
  { label: "Reason", kind: "reason" },
  { label: "Set by", kind: "who" },
  { label: "Before", kind: "number before" },
  { label: "Set to", kind: "number after" },
];
const identity = document.getElementById("identity");
let grants = [];

export const list = new List(document.getElementById("account"), {
  resource: "events",
  rows: "events",
  noun: "event",
  caption: "Events, newest first",
  columns: COLUMNS,
});

export function title() {
  return `${nameOfAccount().name} · Credits`;
}

/** Forget the account. */
export function clear() {
  list.clear();
  setGrants([]);
  identity.querySelector("h2").replaceChildren();
  identity.querySelector("div").replaceChildren();
}

/** Draw the name, the address and the id. */
export function drawIdentity() {
  const { name, address } = nameOfAccount();
  identity.querySelector("h2").replaceChildren(isolated(name));
  const lines = [element("p", { class: "hint code" }, list.query.account_id)];
  if (address !== null) lines.unshift(element("p", {}, isolated(address)));
  identity.querySelector("div").replaceChildren(...lines);
}

function nameOfAccount() {
  const { account_id: id } = list.query;
  return naming(id, accountOf(id));
}

/** Draw what is loaded, or placeholders. */
export function draw() {
  drawSums();
  if (list.count === null) return list.drawGhosts();
  list.drawFoot();
  if (!list.items.length) return list.drawEmpty("This account has no events");
  list.drawTable(list.items.map(rowOfEvent));
}

/** Draw the days and their sums. */
export function drawDays() {
  drawSums();
  list.drawChart();
}

/** Draw the items from an index on, and leave the rows above as they are. */
export function drawMore(from) {
  list.addRows(list.items.slice(from).map(rowOfEvent));
  list.drawFoot();
}

function drawSums() {
  list.drawSums({ Credits: list.credits, Events: list.count });
}

function rowOfEvent(event) {
  const model = event.model_id === null ? nothing("no model") : isolated(event.model_id);
  const row = rowOf(COLUMNS, [
    timeOf(event.created_at),
    [model, " ", element("span", { class: "hint" }, event.provider ?? "")],
    `${event.source}, ${event.agent_type}`,
    integer(event.input_tokens),
    integer(event.cached_input_tokens),
    integer(event.output_tokens),
    integer(event.tool_call_count),
    integer(event.credits_deducted_cents),
    dollars(event.credits_deducted_cents),
  ]);
  row.dataset.id = event.id;
  return row;
}

/** The text is in the reader's time zone; the tooltip is in UTC, as the days are. */
function timeOf(instant) {
  return element("time", { datetime: instant, title: utc(instant) }, local(instant));
}

/** Show these balances, newest first. */
export function setGrants(given) {
  grants = given;
  drawGrants();
}

export function drawGrants() {
  const place = document.getElementById("grants");
  if (!grants.length) return place.replaceChildren();
  const { table, body } = tableOf("Balances set by hand, newest first", GRANT_COLUMNS, { class: "listed grants" });
  body.append(...grants.map(rowOfGrant));
  const summary = element("summary", {}, `Balances set by hand (${grants.length})`);
  // A long table would push the events out of sight.
  place.replaceChildren(element("details", { open: grants.length <= 5 }, summary, table));
}

function rowOfGrant(grant) {
  // Staff who spend no credits are not in the list of accounts: show their id.
  const { name, standIn } = naming(grant.granted_by, accountOf(grant.granted_by));
  return rowOf(GRANT_COLUMNS, [
    timeOf(grant.created_at),
    grant.reason === null ? nothing("no reason given") : isolated(grant.reason),
    isolated(standIn ? grant.granted_by : name, { title: grant.granted_by, class: standIn ? "code" : null }),
    grant.previous_credits === null ? nothing("no balance before") : integer(grant.previous_credits),
    integer(grant.remaining_credits),
  ]);
}
