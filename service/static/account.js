/** One account: its events, newest first, and the balances that staff set by hand. */

import { element, isolated, nothing, rowOf, tableOf } from "./elements.js";
import { integer, local, utc, zone } from "./format.js";
import { emptyOf, known } from "./accounts.js";
import { naming } from "./naming.js";

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

/**
 * Describe the list of an account's events for `Report`.
 * @param {(credits: bigint) => string} dollars
 * @param {(body: object) => void} answered
 */
export function eventsKind(dollars, answered) {
  return {
    resource: "events",
    caption: "Events, newest first",
    columns: COLUMNS,
    noun: "event",
    items: (body) => body.events,
    id: (event) => event.id,
    empty: (period) => emptyOf("This account has no events", period),
    figures: ({ credits, count }) => [
      ["Credits", known(credits, integer), known(credits, dollars, "")],
      ["Events", known(count, integer), ""],
    ],
    row: (event) => rowOfEvent(event, dollars),
    answered,
  };
}

function rowOfEvent(event, dollars) {
  const model = event.model_id === null ? nothing("no model") : isolated(event.model_id);
  return rowOf(COLUMNS, [
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
}

/** In the reader's zone; the tooltip has UTC, as the days are. */
function timeOf(instant) {
  return element("time", { datetime: instant, title: utc(instant) }, local(instant));
}

/**
 * Say whose events these are.
 * @param {HTMLElement} place
 * @param {string} id
 * @param {object|undefined} account what the list of all accounts knows of it
 * @returns {string} its name
 */
export function drawIdentity(place, id, account) {
  const { name, address } = naming(id, account);
  place.querySelector("h2").replaceChildren(isolated(name));
  const lines = [element("p", { class: "hint code" }, id)];
  if (address !== null) lines.unshift(element("p", {}, isolated(address)));
  place.querySelector("div").replaceChildren(...lines);
  return name;
}

/**
 * Show the balances that staff set by hand, where there are any.
 * @param {HTMLElement} place
 * @param {object[]} grants newest first
 * @param {(id: string) => object|undefined} accountOf what the list of all accounts knows of whoever set them
 */
export function drawGrants(place, grants, accountOf) {
  if (!grants.length) return place.replaceChildren();
  const { table, body } = tableOf("Balances set by hand, newest first", GRANT_COLUMNS, { class: "listed grants" });
  for (const grant of grants) {
    const who = naming(grant.granted_by, accountOf(grant.granted_by));
    body.append(
      rowOf(GRANT_COLUMNS, [
        timeOf(grant.created_at),
        grant.reason === null ? nothing("no reason given") : isolated(grant.reason),
        // Few who set balances spend credits: most are known by their account's id only.
        isolated(who.plain ? grant.granted_by : who.name, { title: grant.granted_by, class: who.plain ? "code" : null }),
        grant.previous_credits === null ? nothing("no balance before") : integer(grant.previous_credits),
        integer(grant.remaining_credits),
      ]),
    );
  }
  const title = element("summary", {}, `Balances set by hand (${grants.length})`);
  // Many of them would push the events out of sight.
  place.replaceChildren(element("details", { open: grants.length <= 5 }, title, table));
}
