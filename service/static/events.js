/** The events of one account, newest first, and the balances that staff set by hand. */

import { addressOf, said } from "./address.js";
import { requestJson } from "./api.js";
import { element, isolated, nothing, rowOf, tableOf } from "./elements.js";
import { dollars, integer, local, naming, utc, zone } from "./format.js";
import { List } from "./list.js";

// Names of more members of staff are not asked for: their ids are shown.
const MOST_NAMES = 10;

const number = (label, kind, column) => ({ label, kind: `number ${kind}`, cell: (item) => integer(item[column]) });
const COLUMNS = [
  { label: `Time (${zone})`, kind: "time", header: true, cell: (event) => timeOf(event.created_at) },
  { label: "Model", kind: "model", cell: modelOf },
  { label: "Source", kind: "source", cell: (event) => `${event.source}, ${event.agent_type}` },
  number("Input tokens", "input", "input_tokens"),
  number("Cached input", "cached", "cached_input_tokens"),
  number("Output tokens", "output", "output_tokens"),
  number("Tool calls", "calls", "tool_call_count"),
  number("Credits", "credits", "credits_deducted_cents"),
  { label: "Dollars", kind: "number dollars", cell: (event) => dollars(event.credits_deducted_cents) },
];

/** The text is in the reader's time zone; the tooltip is in UTC, as the days are. */
function timeOf(instant) {
  return element("time", { datetime: instant, title: utc(instant) }, local(instant));
}

function modelOf({ model_id: model, provider }) {
  return [model === null ? nothing("no model") : isolated(model), " ", element("span", { class: "hint" }, provider ?? "")];
}

export class Events extends List {
  resource = "events";
  key = "events";
  noun = "event";
  caption = "Events, newest first";
  columns = COLUMNS;
  grants = [];
  /** The account as the API names it; null where there is none, undefined until it is known. */
  account = undefined;
  /** The accounts that set the grants, by id, as far as they are known. */
  #granters = new Map();

  constructor(id) {
    super(id);
    this.parts.grants = element("div", { id: "grants" });
    this.parts.table.before(this.parts.grants);
  }

  queryOf(view) {
    return { account_id: view.account, ...view.window };
  }

  get emptiness() {
    return [this.account === null ? "There is no account with this id." : `This account has no events ${said(this.view)}.`];
  }

  receive(answer) {
    super.receive(answer);
    this.grants = answer.body.grants;
    this.account = answer.body.account;
  }

  draw() {
    super.draw();
    this.drawGrants();
  }

  clear() {
    super.clear();
    this.grants = [];
    this.account = undefined;
    this.#granters.clear();
  }

  /** Ask for the names of those who set the grants, one after the other, and draw them. */
  async loadGranters(signal) {
    const ids = [...new Set(this.grants.map(({ granted_by: id }) => id))];
    for (const id of ids.filter((one) => !this.#granters.has(one)).slice(0, MOST_NAMES)) {
      const { body } = await requestJson("events", { account_id: id, period: "daily", limit: 1 }, signal);
      this.#granters.set(id, body.account);
    }
    if (ids.length) this.drawGrants();
  }

  drawGrants() {
    if (!this.grants.length) return this.parts.grants.replaceChildren();
    const columns = [
      { label: `Time (${zone})`, kind: "time", header: true, cell: (grant) => timeOf(grant.created_at) },
      { label: "Reason", kind: "reason", cell: ({ reason }) => (reason === null ? nothing("no reason given") : isolated(reason)) },
      { label: "Set by", kind: "who", cell: ({ granted_by: id }) => this.#granterOf(id) },
      {
        label: "Before",
        kind: "number before",
        cell: ({ previous_credits: sum }) => (sum === null ? nothing("no balance before") : integer(sum)),
      },
      number("Set to", "after", "remaining_credits"),
    ];
    const { table, body } = tableOf("Balances set by hand, newest first", columns, { class: "listed grants" });
    body.append(...this.grants.map((grant) => rowOf(columns, grant)));
    const summary = element("summary", {}, `Balances set by hand (${this.grants.length})`);
    // A long table would push the events out of sight.
    const open = this.parts.grants.querySelector("details")?.open ?? this.grants.length <= 5;
    this.parts.grants.replaceChildren(element("details", { open }, summary, table));
  }

  #granterOf(id) {
    const { name, standIn } = naming(id, this.#granters.get(id));
    const address = addressOf({ ...this.view, account: id, show: null, q: null });
    return element("a", { href: address, title: id, class: standIn ? "code" : null }, isolated(standIn ? id : name));
  }
}
