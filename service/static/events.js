/** The events of one account, newest first, and the balances that staff set by hand. */

import { addressOf, within } from "./address.js";
import { element, isolated, nothing, rowOf, tableOf } from "./elements.js";
import { dollars, integer, local, utc, zone } from "./format.js";
import { naming } from "./tab.js";

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
  return [model === null ? nothing("no model") : isolated(model, { title: model }), " ", element("span", { class: "hint" }, provider ?? "")];
}

/** @type {import("./state.js").Kind} */
export const EVENTS = {
  resource: "events",
  noun: () => "event",
  caption: () => "Events, newest first",
  queryOf: (view) => ({ account_id: view.account, ...view.window, ...view.filters }),
  columns: () => COLUMNS,
  emptiness: (view, account) => [account === null ? "There is no account with this id." : `This account has no events${within(view)}.`],
};

/** The balances that staff set by hand, above the events. */
export class Grants {
  #drawn = {};

  /** @param {HTMLElement} place */
  constructor(place) {
    this.place = place;
  }

  /**
   * Draw what has changed.
   * @param {import("./state.js").State} state
   * @param {boolean} again whether to draw what has not changed too
   */
  draw({ view, list, lists, granters }, again) {
    const grants = lists.events?.grants ?? [];
    this.place.hidden = list !== lists.events;
    if (!again && grants === this.#drawn.grants && granters === this.#drawn.granters) return;
    this.#drawn = { grants, granters };
    if (!grants.length) return this.place.replaceChildren();
    const granter = ({ granted_by: id }) => {
      const { name, standIn } = naming(id, granters[id]);
      const address = addressOf({ ...view, account: id, show: null, q: null });
      return element("a", { href: address, title: id, class: standIn ? "code" : null }, isolated(standIn ? id : name));
    };
    const columns = [
      { label: `Time (${zone})`, kind: "time", header: true, cell: (grant) => timeOf(grant.created_at) },
      { label: "Reason", kind: "reason", cell: ({ reason }) => (reason === null ? nothing("no reason given") : isolated(reason)) },
      { label: "Set by", kind: "who", cell: granter },
      {
        label: "Before",
        kind: "number before",
        cell: ({ previous_credits: sum }) => (sum === null ? nothing("no balance before") : integer(sum)),
      },
      number("Set to", "after", "remaining_credits"),
    ];
    const { table, body } = tableOf("Balances set by hand, newest first", columns, { class: "listed grants" });
    body.append(...grants.map((grant) => rowOf(columns, grant)));
    const summary = element("summary", {}, `Balances set by hand (${grants.length})`);
    // A long table would push the events out of sight.
    const open = this.place.querySelector("details")?.open ?? grants.length <= 5;
    this.place.replaceChildren(element("details", { open }, summary, table));
  }
}
