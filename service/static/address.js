/** The fragment of the URL: a window, an account, which list of it is shown, and filters, as in #period=weekly&show=model. */

import { days, endOf, lastDayOf, month } from "./format.js";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The periods of the API, as they end a title. */
const PERIODS = {
  daily: "today",
  weekly: "in the last 7 days",
  monthly: "in the last 30 days",
  all: "of all time",
};

/** The values of the API's parameter `by`, and the noun of each. */
export const BREAKDOWNS = { model: "model", provider: "provider", source: "source", agent_type: "agent type" };

/**
 * A view: `period`, or the days `from` and `to` (null: until now); the id of an account, or null; what is shown, `spenders`,
 * `changes`, `events` or a key of BREAKDOWNS; the text searched for, or null; the filters, in the order of BREAKDOWNS, of which
 * an empty one keeps the events without a value; the window as the API names it, without its end; and the end of a range, which
 * may be in the future, or null.
 * @typedef {{period: string|null, from: string|null, to: string|null, account: string|null, show: string, q: string|null,
 *   filters: Object<string, string>, window: {period?: string, since?: string}, end: string|null}} View
 */

/**
 * Read a fragment.
 * @param {string} fragment without its #
 * @returns {{view: View, problem: string|null}} the part that is wrong, or null; `view` is then the page's first
 */
export function viewOf(fragment) {
  const named = [...new URLSearchParams(fragment)];
  const given = Object.fromEntries(named);
  given.account = given.account?.toLowerCase();
  const allowed = {
    period: (text) => Object.hasOwn(PERIODS, text) && given.from === undefined,
    from: isDay,
    to: (text) => isDay(text) && given.from <= text,
    account: (text) => UUID.test(text),
    show: (text) => Object.hasOwn(BREAKDOWNS, text) || text === (given.account ? "events" : "spenders") || (text === "changes" && !given.account),
    q: (text) => text.length > 0 && text.length <= 200 && !given.account && (given.show ?? "spenders") === "spenders",
    ...Object.fromEntries(Object.keys(BREAKDOWNS).map((name) => [name, isFilter])),
  };
  const wrong = named.find(([name], index) => {
    const repeated = named.findIndex(([other]) => other === name) < index;
    return repeated || !Object.hasOwn(allowed, name) || !allowed[name](given[name]);
  });
  const { from = null, to = null, account = null, q = null } = wrong ? {} : given;
  const period = from ? null : ((wrong ? null : given.period) ?? "monthly");
  const show = (wrong ? null : given.show) ?? (account ? "events" : "spenders");
  const filtered = Object.keys(BREAKDOWNS).filter((name) => !wrong && Object.hasOwn(given, name));
  const filters = Object.fromEntries(filtered.map((name) => [name, given[name]]));
  const window = period ? { period } : { since: from };
  return { view: { period, from, to, account, show, q, filters, window, end: to && endOf(to) }, problem: wrong ? wrong.join("=") : null };
}

/** Return whether the API takes a text as the value of a filter. */
export function isFilter(text) {
  return [...text].length <= 500 && !text.includes("\0");
}

function isDay(text) {
  return /^\d{4}-\d\d-\d\d$/.test(text) && new Date(text).toJSON()?.slice(0, 10) === text;
}

/** Return the fragment of a view, with its #. */
export function addressOf({ period, from, to, account, show, q, filters }) {
  const usual = account ? "events" : "spenders";
  const named = { period, from, to, account, show: show === usual ? null : show, q };
  return `#${new URLSearchParams([...Object.entries(named).filter(([, value]) => value), ...Object.entries(filters)])}`;
}

/** Return what to append to a sentence to name the window of a view, but all time, and that it has filters. */
export function within(view) {
  const window = view.period === "all" ? "" : ` ${said(view)}`;
  return window + (Object.keys(view.filters).length ? " with these filters" : "");
}

/** Return what to append to a title to name the filters of a view. */
export function filtered({ filters }) {
  return Object.entries(filters).map(([name, value]) => `, ${BREAKDOWNS[name]} ${value || "none"}`).join("");
}

/** Name the window of a view at the end of a title: "in the last 7 days". */
export function said({ period, from, to }) {
  if (period) return PERIODS[period];
  if (!to) return `since ${days(from)}`;
  const of = from.slice(0, 7);
  return from === `${of}-01` && to === lastDayOf(of) ? `in ${month(of)}` : `on ${days(from, to)}`;
}
