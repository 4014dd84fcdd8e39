/** The page: reacts to its controls, and shows the view that the fragment of the URL names. */

import { BREAKDOWNS, addressOf, said, viewOf } from "./address.js";
import { ApiError, askTabs, forgetEverywhere, key, lendKey, requestCsv } from "./api.js";
import { button, element, isolated, onPress } from "./elements.js";
import { Events } from "./events.js";
import { days, hiding, lastDayOf, localTime, month, naming, today, utc } from "./format.js";
import { announce } from "./list.js";
import { showReceipt } from "./receipts.js";
import { Breakdown, Changes, Spenders } from "./spending.js";
import { Summary } from "./summary.js";

const MALFORMED_KEY = "This is not a key. A key consists of Latin letters, digits and signs, without spaces.";

const at = (id) => document.getElementById(id);
const periodButtons = [...document.querySelectorAll("[data-period]")];

/** The two halves of the page. Each has a summary, its lists by name, and the view and the instant that are loaded. */
const all = halfOf("accounts", { spenders: new Spenders("spenders"), changes: new Changes("changes") }, "breakdown");
const one = halfOf("account", { events: new Events("events") }, "account-breakdown");
/** What is shown; null before the first view. */
let shown = null;
let requests = new AbortController();
/** Aborts the files that are being downloaded, when the key is forgotten. */
let downloads = new AbortController();
let scrolledTo = 0;
let typing = 0;

function halfOf(id, lists, breakdown) {
  const section = at(id);
  const list = new Breakdown(breakdown);
  for (const by of Object.keys(BREAKDOWNS)) lists[by] = list;
  return { section, lists, summary: new Summary(section), instant: null };
}

function listsOf({ lists }) {
  return [...new Set(Object.values(lists))];
}

/** Show the view that the fragment names, or ask for the key. */
async function show() {
  clearTimeout(typing);
  if (key.get() === null) return askForKey();
  const { view, problem } = viewOf(location.hash.slice(1));
  at("key-form").hidden = true;
  at("report").hidden = at("tools").hidden = false;
  at("wrong-address").hidden = problem === null;
  at("wrong-part").textContent = problem;
  at("right-address").hidden = problem !== null;
  if (problem !== null) return showProblem();

  const half = view.account ? one : all;
  const list = half.lists[view.show];
  const before = shown;
  if (before?.half === all && half === one) scrolledTo = scrollY;
  // A new entry of the history remembers whether the one before it is the list.
  if (history.state === null) history.replaceState({ fromList: before?.half === all && half === one }, "");
  shown = { view, half, list };
  all.section.hidden = half !== all;
  one.section.hidden = half !== one;
  for (const other of listsOf(half)) other.panel.hidden = other !== list;
  // Moved only where it has to be: an element that is moved loses the focus.
  if (at("lists").parentNode !== half.section) half.summary.place.after(at("lists"));
  at("download-notice").replaceChildren();
  drawControls();
  const loading = load();
  drawHeader();
  if (before === null || before.view.account === view.account) return loading;
  if (half === all) await returnTo(before.view.account, loading);
  else focusHeading();
}

function showProblem() {
  document.title = "Top spenders";
  requests.abort();
  shown = null;
  at("wrong-address").querySelector("a").focus();
}

/** Load the parts of the view that are missing. */
async function load() {
  const { view, half, list } = shown;
  requests.abort();
  requests = new AbortController();
  const { signal } = requests;
  const { summary } = half;
  const asOf = list.expired ? null : instantOf(view);
  half.section.ariaBusy = "true";
  summary.start(view);
  if (!list.resume(view, asOf, signal) && !(await list.load(view, asOf, signal))) {
    if (signal.aborted) return;
    half.section.ariaBusy = null;
    if (list.count === null) summary.place.hidden = true;
    return;
  }
  half.instant = { view, asOf: list.asOf };
  if (half === all && view.show === "spenders" && !view.q) summary.accounts = { count: list.count, asOf: list.asOf };
  drawHeader();
  const isNobody = () => half === one && accountOf(view.account) === null;
  const loaded = isNobody() || (await summary.load(view, list.since, list.asOf, signal));
  if (signal.aborted) return;
  half.section.ariaBusy = null;
  // The list of changes of “All” asks for nothing, so it has no instant of its own.
  half.instant.asOf ??= summary.asOf;
  summary.place.hidden = isNobody();
  drawHeader();
  if (!loaded) return;
  if (!isNobody()) list.drawShares(summary.sums.credits);
  if (list === one.lists.events) await list.loadGranters(signal).catch(ignoreFailure);
}

function ignoreFailure(error) {
  // The ids stay.
  if (!(error instanceof ApiError) && error.name !== "AbortError") throw error;
}

/** Return the instant of the window that is loaded, or null; for an account the later of both halves: not before its row. */
function instantOf(view) {
  const instants = (view.account ? [all, one] : [all]).map(({ instant }) => instant);
  const known = instants.filter((instant) => instant?.asOf && sameWindow(instant.view, view));
  return known.map(({ asOf }) => asOf).sort().at(-1) ?? null;
}

function sameWindow(view, other) {
  return JSON.stringify(view.window) === JSON.stringify(other.window);
}

/** Show the list as it was when the reader left it. */
async function returnTo(id, loading) {
  const { list } = shown;
  if (list.count === null) {
    focusHeading();
    await loading;
    // The reader may have moved the focus meanwhile.
    if (document.activeElement !== at("accounts-heading")) return;
  }
  scrollTo(0, scrolledTo);
  if (!list.focus(id)) focusHeading();
}

function focusHeading() {
  scrollTo(0, 0);
  shown?.half.section.querySelector("h2").focus({ preventScroll: true });
}

/** Show another view: `changes` to the one that is shown. */
function goTo(changes, replacing = false) {
  const address = addressOf({ ...shown.view, ...changes });
  if (replacing) history.replaceState(history.state, "", address);
  else history.pushState(null, "", address);
  show();
}

function back() {
  if (history.state?.fromList) history.back();
  else goTo({ account: null, show: null });
}

/** Draw the controls as the view has them. */
function drawControls() {
  const { view, half } = shown;
  for (const period of periodButtons) period.ariaPressed = String(period.dataset.period === view.period);
  at("range-button").ariaPressed = String(view.period === null);
  at("from").value = view.from ?? "";
  at("to").value = view.to ?? "";
  at("download").hidden = view.show === "changes" && view.period === "all";
  boundRange();
  at("search-form").hidden = half !== all || view.show !== "spenders";
  // While the reader types, the field may have spaces that the search has not.
  if (at("search").value.trim() !== (view.q ?? "")) at("search").value = view.q ?? "";
  const byes = Object.hasOwn(BREAKDOWNS, view.show);
  at("by").hidden = !byes;
  for (const link of document.querySelectorAll("[data-show]")) {
    const { show } = link.dataset;
    const isTab = link.closest("#tabs");
    link.hidden = isTab && (show === "events") !== (half === one) && show !== "model";
    link.href = addressOf({ ...view, show, q: null });
    const current = show === view.show || (isTab && show === "model" && byes);
    link.ariaCurrent = current ? (isTab ? "page" : "true") : null;
  }
}

/** Draw the dates, the instant, the account and the title of what is shown. */
function drawHeader() {
  const { view, half, list } = shown;
  const { summary } = half;
  const asOf = list.asOf ?? summary.asOf;
  const first = summary.days?.[0]?.day ?? list.since?.slice(0, 10);
  const last = summary.days?.at(-1)?.day ?? asOf?.slice(0, 10);
  at("window").textContent = !last ? "" : first ? days(first, last) : `until ${days(last)}`;
  // A window that has ended does not change.
  const ended = view.window.as_of !== undefined;
  const time = asOf && !ended && element("time", { datetime: asOf, title: utc(asOf) }, localTime(asOf));
  at("updated").replaceChildren(...(time ? ["UTC days, as of ", time] : last ? ["UTC days"] : []));
  at("sql").hidden = list.sources.length === 0;
  if (half === one) drawIdentity();
  document.title = titleOf(view);
}

function titleOf(view) {
  if (view.account) return `${identityOf(view.account).name} · Credits`;
  if (view.show === "spenders") return `Top spenders ${said(view)}`;
  return view.show === "changes" ? `Biggest changes ${said(view)}` : `Credits by ${BREAKDOWNS[view.show]} ${said(view)}`;
}

/** Return the account as it is known from a row or an answer; null when there is none, undefined while it is unknown. */
function accountOf(id) {
  const isIt = ({ account_id }) => account_id === id;
  const row = all.lists.spenders.items.find(isIt) ?? all.lists.changes.items.find(isIt);
  const { events } = one.lists;
  const answered = events.view?.account === id ? events.account : undefined;
  return answered === undefined ? (row ?? (one.summary.view?.account === id ? one.summary.account : undefined)) : answered;
}

function identityOf(id) {
  const account = accountOf(id);
  return account === null ? { name: "No such account", address: null } : naming(id, account);
}

function drawIdentity() {
  const id = shown.view.account;
  const { name, address } = identityOf(id);
  at("account-heading").replaceChildren(isolated(name));
  const lines = [element("p", { class: "hint code" }, id)];
  if (address !== null) lines.unshift(element("p", {}, isolated(address)));
  at("identity").replaceChildren(...lines);
}

/** Show the key form instead of the report. */
function askForKey(problem = "") {
  at("report").hidden = at("tools").hidden = true;
  document.title = "Top spenders";
  at("key-form").hidden = false;
  at("key-problem").hidden = !problem;
  at("key-problem").textContent = problem;
  at("key").ariaInvalid = problem ? "true" : null;
  at("key").focus();
}

/** Forget all that was loaded with the key, which is forgotten already. */
function leave(problem) {
  requests.abort();
  downloads.abort();
  downloads = new AbortController();
  clearTimeout(typing);
  // A search may be a name. After a refused key it stays, for the next key.
  if (!problem && shown?.view.q) history.replaceState(history.state, "", addressOf({ ...shown.view, q: null }));
  for (const half of [all, one]) {
    half.section.ariaBusy = null;
    half.summary.clear();
    half.instant = null;
    for (const list of listsOf(half)) list.clear();
  }
  for (const id of ["account-heading", "identity", "window", "updated"]) at(id).replaceChildren();
  at("search").value = "";
  at("receipt").close();
  shown = null;
  askForKey(problem);
}

/** Save all rows of the list that is shown as a CSV file, as of its instant. */
async function download() {
  const { list, view } = shown;
  const place = at("download-notice");
  const { resource, asOf } = list;
  try {
    const parameters = { ...list.queryOf(view), ...(asOf && { as_of: asOf }) };
    const file = await requestCsv(resource, parameters, downloads.signal);
    const days = view.period ? [view.period, asOf?.slice(0, 10)] : [view.from, view.to ?? asOf?.slice(0, 10)];
    const by = Object.hasOwn(BREAKDOWNS, view.show) && view.show;
    const name = `${["credits", resource, by, view.q && "search", view.account, ...days].filter(Boolean).join("-")}.csv`;
    save(hiding.get() ? await withoutNames(file) : file, name);
    place.replaceChildren();
    announce(`Downloaded ${name}`);
  } catch (error) {
    if (key.get() === null) return;
    if (!(error instanceof ApiError)) throw error;
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

function hideNames(hide) {
  hiding.set(hide);
  at("hide-names").ariaChecked = String(hide);
  if (!shown) return;
  for (const list of [all.lists.spenders, all.lists.changes]) if (list.count !== null) list.draw();
  one.lists.events.drawGrants();
  drawHeader();
}

/** Fill the picker of ranges with the last twelve months. */
function drawMonths() {
  const [year, number] = today().split("-").map(Number);
  const months = Array.from({ length: 12 }, (_, back) => new Date(Date.UTC(year, number - 1 - back)).toJSON().slice(0, 7));
  const buttons = months.map((text) => {
    const [from, to] = [`${text}-01`, lastDayOf(text)];
    const pressed = String(shown.view.from === from && shown.view.to === to);
    return button(month(text), () => chooseRange(from, to), { "aria-pressed": pressed });
  });
  at("months").replaceChildren(...buttons);
}

/** Bound the fields of the range: it does not begin in the future, nor end before it begins or before 1970. */
function boundRange() {
  at("from").max = today();
  at("to").min = ["1970-01-01", at("from").value].sort().at(-1);
}

function chooseRange(from, to) {
  at("range").hidePopover();
  goTo({ period: null, from, to });
}

/** Search for what the field has, as soon as the reader stops typing. */
function search() {
  const q = at("search").value.trim() || null;
  // The letters of one search are one entry of the history.
  if (q !== shown.view.q) goTo({ q }, shown.view.q !== null && q !== null);
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("key").value.trim();
  at("key").value = "";
  // A header cannot carry other characters.
  if (!/^[\x21-\x7e]+$/.test(text)) return askForKey(MALFORMED_KEY);
  key.set(text);
  show();
  focusHeading();
});
for (const period of periodButtons) {
  period.addEventListener("click", () => {
    const chosen = { period: period.dataset.period, from: null, to: null };
    if (chosen.period !== shown.view.period) goTo(chosen);
  });
}
at("range").addEventListener("beforetoggle", ({ newState }) => {
  if (newState !== "open") return;
  drawMonths();
  // Where the button is; on a small screen the style sheet centres it.
  const { left, bottom } = at("range-button").getBoundingClientRect();
  at("range").style.setProperty("--left", `${left}px`);
  at("range").style.setProperty("--top", `${bottom + 8}px`);
});
at("from").addEventListener("input", boundRange);
at("range-form").addEventListener("submit", (event) => {
  event.preventDefault();
  chooseRange(at("from").value, at("to").value || null);
});
// The whole row is a target for a pointer, unless the press selects text.
all.section.addEventListener("click", (event) => {
  const link = event.target.closest("tr[data-id]")?.querySelector("a");
  if (link && !link.contains(event.target) && getSelection().isCollapsed) link.dispatchEvent(new MouseEvent("click", event));
});
// The reader may be opening a link in another tab.
for (const press of ["click", "auxclick", "contextmenu"]) {
  addEventListener(press, ({ type, target, ctrlKey, metaKey, shiftKey }) => {
    if (target.closest?.("a") && (type !== "click" || ctrlKey || metaKey || shiftKey)) lendKey();
  }, true);
}
for (const { section } of [all, one]) section.addEventListener("retry", show);
at("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
at("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, 250);
});
onPress(at("refresh"), () => {
  shown.list.expired = true;
  return show();
});
onPress(at("download"), download);
onPress(at("sql"), () => showReceipt(shown.list.caption, shown.list.receipts));
onPress(at("hide-names"), () => hideNames(!hiding.get()));
onPress(at("forget-key"), () => {
  key.forget();
  forgetEverywhere();
  leave("");
});
onPress(at("back"), back);
addEventListener("key", ({ detail }) => {
  at("hide-names").ariaChecked = String(hiding.get());
  if (key.get() === null) leave(detail ?? "");
  else show();
});
addEventListener("keydown", (event) => {
  const editing = event.target.matches("input") || document.querySelector("dialog[open], :popover-open");
  if (editing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && shown?.half === one) back();
});
addEventListener("popstate", show);
history.scrollRestoration = "manual";
at("hide-names").ariaChecked = String(hiding.get());
show();
if (key.get() === null) askTabs();
