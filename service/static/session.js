/** The key, and what is loaded with it: lists, their days, files. Shows the errors of the service. */

import * as account from "./account.js";
import * as accounts from "./accounts.js";
import { ApiError, key, requestCsv, requestJson } from "./api.js";
import { button, element } from "./elements.js";
import { days, hiding, localTime, utc } from "./format.js";
import { LIMIT } from "./list.js";

const PROBLEMS_OF_KEYS = {
  401: "This key is unknown or has expired. Enter another key.",
  403: "This key is valid, but its owner is not an administrator. Enter an administrator's key.",
};
const MALFORMED_KEY = "This is not a key. A key consists of Latin letters, digits and signs, without spaces.";

const at = (id) => document.getElementById(id);

/** Return the module of the view that is shown. Both export `list`, `title`, `draw`, `drawDays` and `drawMore`. */
export function shown() {
  return accounts.list.section.hidden ? account : accounts;
}

/** Show the key form instead of the report. */
export function askForKey(problem = "") {
  at("report").hidden = at("tools").hidden = true;
  document.title = "Top spenders";
  at("key-form").hidden = false;
  at("key-problem").hidden = !problem;
  at("key-problem").textContent = problem;
  at("key").ariaInvalid = problem ? "true" : null;
  at("key").focus();
}

/** Take the key from the form; return false, and say why, when it cannot be one. */
export function enterKey() {
  const text = at("key").value.trim();
  at("key").value = "";
  // A header cannot carry other characters.
  if (!/^[\x21-\x7e]+$/.test(text)) {
    askForKey(MALFORMED_KEY);
    return false;
  }
  key.set(text);
  at("key-form").hidden = true;
  return true;
}

/** Forget the key and all that was loaded with it. */
export function leave(problem) {
  key.forget();
  accounts.list.clear();
  account.clear();
  askForKey(problem);
}

/**
 * Load the first page of a list, then its days as of the same instant.
 * The old items stay on the page until the answer arrives, if they are of the same query.
 * @param {typeof accounts | typeof account} view
 * @param {{period: string, account_id?: string}} query
 * @param {string|null} asOf the instant; null for now
 */
export async function load(view, query, asOf = null) {
  const { list } = view;
  const signal = list.start(query);
  if (list.count === null) view.draw();
  drawHeader();
  announce(list, "Loading");
  const again = () => load(view, query, asOf);
  await attempt(list, signal, "notice", again, async () => {
    const answer = await requestJson(list.resource, { ...query, as_of: asOf, limit: LIMIT }, signal);
    list.setFirstPage(answer);
    if (view === account) account.setGrants(answer.body.grants);
    view.draw();
    drawHeader();
    announce(list, list.counted());
    await loadDays(view, signal);
  });
  if (!signal.aborted) list.finish();
}

async function loadDays(view, signal) {
  const { list } = view;
  const again = () => loadDays(view, signal);
  await attempt(list, signal, "chart", again, async () => {
    list.setDays(await requestJson("days", { ...list.query, as_of: list.asOf }, signal));
    view.drawDays();
    drawHeader();
  });
}

/** Load the next page of a list. */
export async function loadMore(view) {
  const { list } = view;
  const { signal } = list;
  const again = () => loadMore(view);
  await attempt(list, signal, "trouble", again, async () => {
    const page = { as_of: list.asOf, limit: LIMIT, page: list.nextPage };
    const answer = await requestJson(list.resource, { ...list.query, ...page }, signal);
    const before = list.items.length;
    const focused = document.activeElement === list.parts.more;
    list.addPage(answer);
    view.drawMore(before);
    // After the last page the button is hidden: move its focus to the first new row.
    if (focused && !list.hasMore()) list.focusRow(list.tableRows()[before]);
    announce(list, list.counted());
  });
}

/** Run a request. When it fails, show the error in a part of the list, or ask for another key. */
async function attempt(list, signal, part, again, act) {
  try {
    await act();
    if (!signal.aborted) list.removeNotice(part);
  } catch (error) {
    // A newer request has replaced this one.
    if (signal.aborted) return;
    if (!(error instanceof ApiError)) throw error;
    if (error.status in PROBLEMS_OF_KEYS) leave(PROBLEMS_OF_KEYS[error.status]);
    else list.showNotice(part, error.message, again);
  }
}

/** Save all rows of the list that is shown as a CSV file, as of its instant. */
export async function download() {
  const { resource, query, asOf } = shown().list;
  const place = at("download-notice");
  try {
    const file = await requestCsv(resource, { ...query, as_of: asOf });
    const parts = ["credits", resource, query.account_id, query.period, asOf?.slice(0, 10)];
    const name = `${parts.filter(Boolean).join("-")}.csv`;
    save(hiding.get() ? await withoutNames(file) : file, name);
    place.replaceChildren();
    at("status").textContent = `Downloaded ${name}`;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status in PROBLEMS_OF_KEYS) return leave(PROBLEMS_OF_KEYS[error.status]);
    const words = element("p", {}, `The CSV file was not downloaded. ${error.message}`);
    const before = document.activeElement;
    const close = button("Close", () => {
      place.replaceChildren();
      before.focus();
    });
    place.replaceChildren(element("div", { class: "notice", role: "alert" }, words, close));
  }
}

/** Empty the second and third column of a CSV file of accounts, their name and address. */
async function withoutNames(file) {
  const text = await file.text();
  if (!text.startsWith("account_id,")) return file;
  const field = '(?:"(?:[^"]|"")*"|[^",\\r\\n]*)';
  const kept = text.replace(new RegExp(`(\\r\\n[^,\\r\\n]+,)${field},${field}(?=,)`, "g"), "$1,");
  return new Blob([kept], { type: file.type });
}

function save(file, name) {
  const address = URL.createObjectURL(file);
  element("a", { href: address, download: name }).click();
  // The browser reads the file after the click has been handled.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Draw the dates, the instant, the account's name and the title of the view that is shown. */
export function drawHeader() {
  const view = shown();
  const { asOf, since, days: loaded } = view.list;
  const first = loaded?.[0]?.day ?? since?.slice(0, 10);
  const last = loaded?.at(-1)?.day ?? asOf?.slice(0, 10);
  at("window").textContent = !last ? "" : first ? days(first, last) : `until ${days(last)}`;
  const time = asOf && element("time", { datetime: asOf, title: utc(asOf) }, localTime(asOf));
  at("updated").replaceChildren(...(time ? ["UTC days, as of ", time] : []));
  if (view === account) account.drawIdentity();
  document.title = view.title();
}

/** Have a screen reader read a text, if its list is shown. */
function announce(list, text) {
  if (list === shown().list) at("status").textContent = text;
}
