/** What is loaded of the API. A state never changes: `load` and `loadMore` make the next one from it. */

import { ApiError, requestJson } from "./api.js";
import { hasCome, isOfAnotherDay } from "./clock.js";
import { EVENTS } from "./events.js";
import { previousWindow } from "./format.js";
import { BREAKDOWN, CHANGES, SPENDERS, compares } from "./spending.js";

/** The number of items of a page. */
export const LIMIT = 100;
// The API's largest page
const LARGEST = 500n;
// So many windows are kept beside those that are shown.
const MOST_PAST = 8;
// Names of more members of staff are not asked for: their ids are shown.
const MOST_NAMES = 10;
const KINDS = { spenders: SPENDERS, changes: CHANGES, events: EVENTS };

/**
 * @typedef {import("./address.js").View} View
 * @typedef {import("./tab.js").Account} Account
 * @typedef {{label: string, kind: string, header?: boolean, cell: (item: any, index: number) => any}} Column
 */

/**
 * A kind of list: its resource, its parameters without `page` and `limit`, its words, and the lines to show without items.
 * `whole` is the credits of the window; null until they are loaded.
 * @typedef {object} Kind
 * @property {"rollup"|"changes"|"breakdown"|"events"} resource
 * @property {(view: View) => Object<string, string>} queryOf
 * @property {(view: View) => string} noun
 * @property {(view: View) => string} caption
 * @property {(view: View, items: any[], whole: bigint|null) => Column[]} columns
 * @property {(view: View, account?: Account|null) => string[]} emptiness
 */

/**
 * The items of a view as of an instant, on the pages that are loaded. `account` is whose events they
 * are, as the API names it, null where it does not exist. The changes of “All” are not asked for, and have no instant.
 * @typedef {{view: View, instant: string|null, since: string|null, sources: string[], items: any[], count: bigint, page: bigint,
 *   account?: Account|null, grants?: any[]}} List
 */

/**
 * The days of a window and their sums. `account` is the view's, as the API names it, null where it does not exist.
 * @typedef {{instant: string, since: string|null, sources: string[], account?: Account|null, credits: bigint, events: bigint,
 *   days: {day: string, total_credits_deducted_cents: bigint, event_count: bigint}[]}} Sums
 */

/**
 * What is known of a view. After an error, or while it is loading, `list` may be of another search, or `list` and `sums` of
 * an earlier instant than `instant`, as of which the window was last loaded. `previous` is the previous window, `lists` are
 * those that were loaded of the window with the view's filters, by `show`, `accounts` is how many it has, `granters` are the accounts that set the
 * grants, by id, as far as they are known, `busy` is what is loading, and `expired` whether to load all as of now.
 * @typedef {{view: View, instant: string|null, list: List|null, lists: Object<string, List>, sums: Sums|null,
 *   previous: {since: string, as_of: string, credits: bigint, events: bigint}|null,
 *   accounts: {count: bigint, instant: string}|null, granters: Object<string, Account|null>, busy: "list"|"sums"|null,
 *   expired: boolean, listError: ApiError|null, moreError: ApiError|null, sumsError: ApiError|null}} State
 */

const NO_ERRORS = { listError: null, moreError: null, sumsError: null };
const NOTHING = {
  sums: null, previous: null, instant: null, lists: {}, accounts: null, granters: {}, busy: null, expired: false, ...NO_ERRORS,
};

/** @type {{all?: State, one?: State}} the last state of all accounts, and of one account, each of one window */
let kept = {};
/** @type {State[]} the last states of other windows, newest first */
let past = [];

const halfOf = ({ account }) => (account ? "one" : "all");
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const sameWindow = (one, other) => same([one.window, one.end], [other.window, other.end]);
const sameFilters = (one, other) => same(one.filters, other.filters);

/** Return the kind of list that a view shows. */
export function kindOf({ show }) {
  return KINDS[show] ?? BREAKDOWN;
}

/** Return the states that are kept. */
export function keptStates() {
  return Object.values(kept);
}

/** Forget all that is loaded. */
export function forgetStates() {
  kept = {};
  past = [];
}

/** Return the account as it is known from an answer or a row; null when there is none, undefined while it is unknown. */
export function accountOf(id) {
  const one = kept.one?.view.account === id ? kept.one : null;
  if (one?.lists.events) return one.lists.events.account;
  const rows = ["spenders", "changes"].flatMap((show) => kept.all?.lists[show]?.items ?? []);
  return rows.find(({ account_id }) => account_id === id) ?? one?.sums?.account;
}

/** Return whether the account of a view is known not to exist. */
export function isNobody({ account }) {
  return account !== null && accountOf(account) === null;
}

/**
 * Load what is missing of a view.
 * @param {View} view
 * @param {AbortSignal} signal ends it; a state after that would be out of date
 * @param {(state: State) => void} render gets what is known at once, and again when a part is loaded or has failed
 * @param {{refresh?: boolean, pages?: number}} [how] `refresh`: whether to load the view as of now, not as of the instant of
 *   what is loaded of its window; `pages`: how many to load where none is loaded
 */
export async function load(view, signal, render, { refresh = false, pages = 1 } = {}) {
  const half = halfOf(view);
  const known = instantOf(view);
  // On another day the window is another one; so it is when the last day of a range has ended.
  const { list: last, expired } = start(view, known, refresh || (known !== null && known !== view.end && isOfAnotherDay(known)));
  const asOf = endedAt(view) ?? (expired ? null : known);
  const put = (changes) => {
    signal.throwIfAborted();
    render(keep(half, changes));
  };
  const attempt = async (request, onError) => {
    try {
      return await request;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      put({ ...onError(error), busy: null });
    }
  };
  try {
    let list = last;
    if (kindOf(view) === CHANGES && !compares(view)) {
      list = { view, instant: null, since: null, sources: [], items: [], count: 0n, page: 0n };
      put({ list, busy: "sums" });
    } else if (last && !expired && last.instant === asOf && isOf(last, view)) {
      put({ listError: null, busy: "sums" });
    } else {
      put({ busy: "list" });
      const loaded = last && isOf(last, view) ? last.page : BigInt(pages);
      list = await attempt(firstPages(view, asOf, loaded, signal), (listError) => ({ listError }));
      if (!list) return;
      const { instant, count } = list;
      const accounts = view.show === "spenders" && !view.q && { accounts: { instant, count } };
      put({ list, instant, ...accounts, expired: false, listError: null, moreError: null, busy: "sums" });
    }
    if (isNobody(view)) return put({ busy: null });
    const instant = list.instant ?? asOf;
    if (expired || kept[half].sums?.instant !== instant) {
      const loaded = await attempt(sumsOf(view, list.since, instant, signal), (sumsError) => ({ sumsError, sums: null, previous: null }));
      if (!loaded) return;
      put({ ...loaded, instant: loaded.sums.instant, expired: false, sumsError: null });
    }
    put({ busy: null });
    if (list.grants) put({ granters: await grantersOf(list.grants, kept[half].granters, signal) });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** Load the next page of the list that is shown of a view, as `load` does. */
export async function loadMore(view, signal, render) {
  const half = halfOf(view);
  const { list } = kept[half];
  let changes;
  try {
    const next = await request(list.view, list.instant, { page: list.page + 1n }, signal);
    changes = { list: { ...list, items: [...list.items, ...next.items], page: next.page }, moreError: null };
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof ApiError)) throw error;
    changes = { moreError: error };
  }
  // The list may have been loaded again meanwhile: its pages are others.
  if (!signal.aborted && kept[half].list === list) render(keep(half, changes));
}

/**
 * Return the instant as of which to load a view: that of the lists that are loaded for its window, with any filters. Where the
 * list of all accounts and the lists of one account have different instants, it is the later one.
 */
function instantOf(view) {
  const states = [kept.all, view.account ? kept.one : null].filter((state) => state && sameWindow(state.view, view));
  return states.map(({ instant }) => instant).filter(Boolean).sort().at(-1) ?? null;
}

/** Keep what is known of the window and the filters of a view, which is loaded as of an instant, and nothing of others. */
function start(view, instant, refresh) {
  const half = halfOf(view);
  const last = kept[half];
  const isOfView = (state) => state.view.account === view.account && sameWindow(state.view, view) && sameFilters(state.view, view);
  if (!last || !isOfView(last)) {
    const known = past.find(isOfView);
    past = [last, ...past].filter((state) => state && state !== known).slice(0, MOST_PAST);
    // It is shown until the window is loaded as of now, and after an error.
    const again = known && { ...known, ...NO_ERRORS, expired: ![view.end, instant].includes(known.instant) };
    kept = { ...kept, [half]: again ?? NOTHING };
  }
  const { lists, expired } = kept[half];
  const others = last?.view.show !== view.show && { listError: null, moreError: null };
  return keep(half, { view, list: lists[view.show] ?? null, expired: expired || refresh, ...others });
}

/** @returns {State} the last state of a half with changes */
function keep(half, changes) {
  const state = { ...kept[half], ...changes };
  if (changes.list) state.lists = { ...state.lists, [state.view.show]: changes.list };
  kept = { ...kept, [half]: Object.freeze(state) };
  return kept[half];
}

/** Return whether a list was loaded for a view: another view may have the same window. */
function isOf(list, view) {
  return same(kindOf(view).queryOf(view), kindOf(view).queryOf(list.view));
}

/** Return the end of a view's range if it has come. */
export function endedAt({ end }) {
  return end && hasCome(end) ? end : null;
}

/**
 * Ask as of an instant, or as of now if it is null, but not later than the end of the view's range. Whether the end has come is
 * not certain before the answer: this computer's clock may be wrong.
 * @template {{instant: string}} Answer
 * @param {string|null} asOf
 * @param {View} view
 * @param {(edge: {as_of?: string}) => Promise<Answer>} ask
 */
export async function askAsOf(asOf, { end }, ask) {
  let answer;
  try {
    answer = await ask(asOf ? { as_of: asOf } : {});
  } catch (error) {
    if (asOf === null || asOf !== end || !error.fields?.includes("as_of")) throw error;
    answer = await ask({});
  }
  return end && answer.instant > end ? ask({ as_of: end }) : answer;
}

/** Load the first pages of a list in as few requests as the API allows. */
async function firstPages(view, asOf, pages, signal) {
  const limit = [pages * BigInt(LIMIT), LARGEST].sort((one, other) => (one < other ? -1 : 1))[0];
  let list = await request(view, asOf, { limit }, signal);
  for (let page = 2n; BigInt(list.items.length) < list.count && (page - 1n) * limit < pages * BigInt(LIMIT); page += 1n) {
    const next = await request(view, list.instant, { limit, page }, signal);
    list = { ...list, items: [...list.items, ...next.items], page };
  }
  return { ...list, page: (list.page * limit) / BigInt(LIMIT) };
}

/** @returns {Promise<List>} a page of the list of a view */
async function request(view, asOf, page, signal) {
  const { resource, queryOf } = kindOf(view);
  const ask = (edge) => requestJson(resource, { ...queryOf(view), ...edge, limit: LIMIT, ...page }, signal);
  const { body, ...answer } = await askAsOf(asOf, view, ask);
  const { account, grants, total_count: count } = body;
  return { view, ...answer, items: body.rows ?? body.events, count, page: body.page, account, grants };
}

async function sumsOf({ account, period, window, filters }, since, asOf, signal) {
  const days = async (edges) => {
    const { body, ...answer } = await requestJson("days", { ...(account && { account_id: account }), ...edges, ...filters }, signal);
    const sum = (name) => body.days.reduce((total, day) => total + day[name], 0n);
    const sums = { credits: sum("total_credits_deducted_cents"), events: sum("event_count") };
    return { ...answer, ...sums, days: body.days, account: body.account };
  };
  // The API has no windows that end before 1970.
  const edges = since && since >= "1970" ? previousWindow(period, since, asOf) : null;
  const [sums, before] = await Promise.all([days({ ...window, ...(asOf && { as_of: asOf }) }), edges && days(edges)]);
  return { sums, previous: before && { ...edges, credits: before.credits, events: before.events } };
}

/** Ask for the accounts that set the grants, one after the other; without an answer their ids are shown. */
async function grantersOf(grants, known, signal) {
  const ids = [...new Set(grants.map(({ granted_by: id }) => id))].filter((id) => !Object.hasOwn(known, id));
  const found = {};
  try {
    for (const id of ids.slice(0, MOST_NAMES)) {
      const { body } = await requestJson("events", { account_id: id, period: "daily", limit: 1 }, signal);
      found[id] = body.account;
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
  return ids.length ? { ...known, ...found } : known;
}
