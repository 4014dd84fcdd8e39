/** The page: reacts to its controls, and shows the view that the fragment of the URL names. */

import { BREAKDOWNS, addressOf, filtered, said, viewOf } from "./address.js";
import { ApiError, requestFile } from "./api.js";
import { ago, isOld, today } from "./clock.js";
import { copyRows } from "./copy.js";
import { at, button, element, isolated, onPress } from "./elements.js";
import { Grants } from "./events.js";
import { capitalized, days, lastDayOf, localTime, month, utc } from "./format.js";
import { Panel } from "./list.js";
import { Notice, announce } from "./notices.js";
import { listReceipts, showReceipt } from "./receipts.js";
import { accountOf, askAsOf, endedAt, forgetStates, keptStates, kindOf, load, loadMore } from "./state.js";
import { Summary } from "./summary.js";
import { askTabs, forgetEverywhere, hiding, key, lendKey, naming } from "./tab.js";

/** What the page offers to download: the button, the media type, and how it is called. */
const CSV = { id: "download", type: "text/csv", noun: "CSV file", extension: "csv" };
const WORKBOOK = {
  id: "workbook", type: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", noun: "workbook", extension: "xlsx",
};
const MALFORMED_KEY = "This is not a key. A key has only ASCII letters, digits and punctuation, and no spaces.";

/** @returns {HTMLAnchorElement[]} */
const allOf = (selector) => [...document.querySelectorAll(selector)];
const periodButtons = allOf("[data-period]");

/** The halves of the page: one shows all accounts, the other a single account. */
let [all, one] = [halfOf("accounts"), halfOf("account")];
const notice = new Notice(at("download-notice"), "Close", () => {
  notice.draw(null);
  at(downloaded.id).focus();
});
/** @type {import("./state.js").State|null} what is shown; null before the first */
let shown = null;
let requests = new AbortController();
/** Aborts the files that are being downloaded, when the key is forgotten. */
let downloads = new AbortController();
/** What was downloaded last. */
let downloaded = CSV;
let scrolledTo = 0;
/** @type {string|null} the address of the list from which the account that is shown was opened */
let cameFrom = null;
/** How far the page was scrolled, and how many pages were loaded, when it was left or reloaded. */
let resting = null;
let typing = 0;

function halfOf(id) {
  const section = at(id);
  section.ariaBusy = null;
  const retry = () => show();
  const more = () => loadMore(shown.view, requests.signal, render);
  const panel = new Panel(section.querySelector(".panel"), more, retry);
  return { section, panel, grants: new Grants(panel.parts.grants), summary: new Summary(section.querySelector(".summary"), retry) };
}

/** Show the view that the fragment names, or ask for the key. */
async function show(refresh = false) {
  clearTimeout(typing);
  if (key.get() === null) return askForKey();
  const { view, problem } = viewOf(location.hash.slice(1));
  at("key-form").hidden = true;
  at("report").hidden = at("tools").hidden = false;
  at("wrong-address").hidden = problem === null;
  at("wrong-part").textContent = problem;
  at("right-address").hidden = problem !== null;
  requests.abort();
  requests = new AbortController();
  if (problem !== null) {
    document.title = "Top spenders";
    shown = null;
    return at("wrong-address").querySelector("a").focus();
  }

  const before = shown?.view;
  const isOpened = before?.account === null && view.account !== null;
  const isFiltered = JSON.stringify(before?.filters) !== JSON.stringify(view.filters);
  if (isOpened) scrolledTo = scrollY;
  if (isOpened) cameFrom = addressOf(before);
  // A new entry of the history remembers the list, and whether it is the entry before.
  if (history.state === null) history.replaceState({ list: view.account ? cameFrom : null, isNext: isOpened }, "");
  cameFrom = history.state.list;
  const { section, summary } = view.account ? one : all;
  all.section.hidden = section !== all.section;
  one.section.hidden = section !== one.section;
  // Moved only where it has to be: an element that is moved loses the focus.
  if (at("lists").parentNode !== section) summary.place.after(at("lists"));
  notice.draw(null);
  drawControls(view);
  if (isFiltered) drawFilters(view);
  resting = before ? null : history.state;
  const loading = load(view, requests.signal, render, { refresh, pages: resting?.pages });
  // A filter's link is not in the list that it leads to.
  if (before?.account === view.account && isFiltered && before.show !== view.show) focusHeading();
  if (!before || before.account === view.account) return loading;
  if (view.account) focusHeading();
  else await returnTo(before.account, loading);
}

/** Draw a state. */
function render(state) {
  shown = state;
  draw(state);
  drawHeader();
  if (!state.list) return;
  if (resting?.scrolled) scrollTo(0, resting.scrolled);
  resting = null;
  remember();
}

/** Remember where the reader is, for a reload. */
function remember() {
  const place = { scrolled: Math.round(scrollY), pages: Number(shown.list.page) };
  if (place.scrolled !== history.state.scrolled || place.pages !== history.state.pages) {
    history.replaceState({ ...history.state, ...place }, "");
  }
}

/** Draw the half of a state; `again` draws what has not changed too. */
function draw(state, again = false) {
  const half = state.view.account ? one : all;
  half.section.ariaBusy = state.busy && "true";
  half.summary.draw(state);
  half.grants.draw(state, again);
  half.panel.draw(state, again);
}

/** Show the list as it was when the reader left it. */
async function returnTo(id, loading) {
  if (!shown.list) {
    focusHeading();
    await loading;
    // The reader may have moved the focus meanwhile.
    if (document.activeElement !== at("accounts-heading")) return;
  }
  scrollTo(0, scrolledTo);
  if (!all.panel.focus(id)) focusHeading();
}

function focusHeading() {
  scrollTo(0, 0);
  at(one.section.hidden ? "accounts-heading" : "account-heading").focus({ preventScroll: true });
}

/** Show another view: `changes` to the one that is shown. */
function goTo(changes, replacing = false) {
  const address = addressOf({ ...shown.view, ...changes });
  if (replacing) history.replaceState(history.state, "", address);
  else history.pushState(null, "", address);
  show();
}

function back() {
  if (history.state?.isNext) return history.back();
  if (!cameFrom) return goTo({ account: null, show: null });
  history.pushState(null, "", cameFrom);
  show();
}

/** Draw the controls as a view has them. */
function drawControls(view) {
  for (const period of periodButtons) period.ariaPressed = String(period.dataset.period === view.period);
  at("range-button").ariaPressed = String(view.period === null);
  at("from").value = view.from ?? "";
  at("to").value = view.to ?? "";
  drawDownloads(view);
  boundRange();
  at("search-form").hidden = view.show !== "spenders";
  // While the reader types, the field may have spaces that the search has not.
  if (at("search").value.trim() !== (view.q ?? "")) at("search").value = view.q ?? "";
  const byes = Object.hasOwn(BREAKDOWNS, view.show);
  at("by").hidden = !byes;
  for (const link of allOf("[data-show]")) {
    const { show } = link.dataset;
    const isTab = link.closest("#tabs");
    link.hidden = isTab && (show === "events") !== (view.account !== null) && show !== "model";
    link.href = addressOf({ ...view, show, q: null });
    const current = show === view.show || (isTab && show === "model" && byes);
    // The tab names the breakdown that it shows.
    if (isTab && show === "model") link.textContent = `By ${BREAKDOWNS[byes ? view.show : show]}`;
    link.ariaCurrent = current ? (isTab ? "page" : "true") : null;
  }
}

/** Offer the files of a view. Names can be taken out of a CSV file only. */
function drawDownloads(view) {
  at("download").hidden = view.show === "changes" && view.period === "all";
  at("workbook").hidden = at("download").hidden || hiding.get();
}

/** Draw a button for each filter, which removes it. */
function drawFilters(view) {
  const chips = Object.entries(view.filters).map(([name, value]) => {
    const remove = () => {
      goTo({ filters: Object.fromEntries(Object.entries(view.filters).filter(([other]) => other !== name)) });
      (at("filters").querySelector("button") ?? at("tabs").querySelector("[aria-current]")).focus();
    };
    const label = `${capitalized(BREAKDOWNS[name])}: `;
    const chip = button(label, remove, { "aria-label": `${label}${value || "none"}, remove filter` });
    chip.append(value ? isolated(value, { title: value }) : "none", element("span", { "aria-hidden": "true" }, " ×"));
    return chip;
  });
  at("filters").replaceChildren(...chips);
  at("filters").hidden = !chips.length;
}

/** Draw the dates, the instant, the account and the title of what is shown. */
function drawHeader() {
  const { view, list, sums, instant } = shown;
  const asOf = list?.instant ?? instant;
  const first = sums?.days[0]?.day ?? list?.since?.slice(0, 10);
  const last = sums?.days.at(-1)?.day ?? asOf?.slice(0, 10);
  at("window").textContent = !last ? "" : first ? days(first, last) : `until ${days(last)}`;
  // A window that has ended does not change.
  const time = asOf && asOf !== view.end && element("time", { datetime: asOf, title: utc(asOf) }, localTime(asOf));
  const age = element("span", { id: "age" });
  at("updated").replaceChildren(...(time ? ["UTC days, as of ", time, age] : last ? ["UTC days"] : []));
  drawAge();
  at("sql").hidden = !list?.sources.length;
  const titles = { spenders: "Top spenders", changes: "Biggest changes" };
  document.title = `${titles[view.show] ?? `Credits by ${BREAKDOWNS[view.show]}`} ${said(view)}${filtered(view)}`;
  if (view.account) drawIdentity(view.account);
  else at("accounts-heading").textContent = document.title;
}

/** Show the age of the numbers, and offer newer ones when they are old. */
function drawAge() {
  const age = document.getElementById("age");
  const asOf = age?.previousElementSibling.getAttribute("datetime");
  if (age) age.textContent = `, ${ago(asOf)}`;
  const refresh = at("refresh");
  const label = age && isOld(asOf) ? "Newer numbers" : "Refresh";
  if (refresh.textContent === label) return;
  refresh.textContent = label;
  refresh.classList.toggle("primary", label !== "Refresh");
  if (label !== "Refresh") announce("Newer numbers can be loaded");
}

function drawIdentity(id) {
  const account = accountOf(id);
  const { name, address } = account === null ? { name: "No such account", address: null } : naming(id, account);
  document.title = `${name} · Credits`;
  at("account-heading").replaceChildren(isolated(name));
  at("identity").replaceChildren(
    ...(address === null ? [] : [element("p", {}, isolated(address))]),
    element("p", { class: "hint code" }, id),
  );
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
  if (!problem && shown) history.replaceState({}, "", addressOf({ ...shown.view, q: null }));
  forgetStates();
  [all, one] = [halfOf("accounts"), halfOf("account")];
  for (const id of ["account-heading", "identity", "window", "updated", "filters"]) at(id).replaceChildren();
  at("search").value = "";
  at("receipt").close();
  shown = null;
  askForKey(problem);
}

/** Save all rows of the list that is shown as a file, as of its instant. */
async function download(offered) {
  downloaded = offered;
  const { type, noun, extension } = offered;
  const { view, list } = shown;
  const { resource, queryOf } = kindOf(view);
  try {
    const ask = (edge) => requestFile(resource, { ...queryOf(view), ...edge }, type, downloads.signal);
    const { file, instant } = await askAsOf(list?.instant ?? endedAt(view), view, ask);
    // Names may have been hidden meanwhile.
    if (hiding.get() && offered === WORKBOOK) return;
    const end = instant.slice(0, 10);
    const days = view.period ? [view.period, end] : [view.from, view.to ?? end];
    const by = Object.hasOwn(BREAKDOWNS, view.show) && view.show;
    const isFiltered = Object.keys(view.filters).length > 0;
    const kept = [isFiltered && "filtered", view.q && "search", view.account];
    const name = `${["credits", resource, by, ...kept, ...days].filter(Boolean).join("-")}.${extension}`;
    save(hiding.get() && offered === CSV ? await withoutNames(file) : file, name);
    notice.draw(null);
    announce(`Downloaded ${name}`);
  } catch (error) {
    if (key.get() === null) return;
    if (!(error instanceof ApiError)) throw error;
    notice.draw(new Error(`The ${noun} was not downloaded. ${error.message}`));
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
  for (const state of keptStates()) draw(state, true);
  if (shown) drawDownloads(shown.view);
  if (shown) drawHeader();
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
  const isKept = key.set(text);
  show();
  focusHeading();
  if (!isKept) notice.draw(new Error("This browser does not keep the key: after a reload, the page asks for it again."));
});
for (const period of periodButtons) {
  period.addEventListener("click", () => {
    const chosen = { period: period.dataset.period, from: null, to: null };
    if (chosen.period !== shown.view.period) return goTo(chosen);
    return show(true);
  });
}
at("range").addEventListener("beforetoggle", ({ newState }) => {
  if (newState !== "open") return;
  drawMonths();
  boundRange();
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
at("right-address").addEventListener("click", (/** @type {any} */ event) => {
  const link = event.target.closest("tr[data-id]")?.querySelector("a");
  if (link && !link.contains(event.target) && getSelection().isCollapsed) link.dispatchEvent(new MouseEvent("click", event));
});
// The reader may be opening a link in another tab.
for (const press of ["click", "auxclick", "contextmenu"]) {
  addEventListener(press, (/** @type {any} */ { type, target, ctrlKey, metaKey, shiftKey }) => {
    if (target.closest?.("a") && (type !== "click" || ctrlKey || metaKey || shiftKey)) lendKey();
  }, true);
}
at("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
at("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, 250);
});
onPress(at("refresh"), () => show(true));
for (const offered of [CSV, WORKBOOK]) onPress(at(offered.id), () => download(offered));
onPress(at("sql"), () => showReceipt(kindOf(shown.view).caption(shown.view), listReceipts(shown.list)));
onPress(at("hide-names"), () => hideNames(!hiding.get()));
onPress(at("forget-key"), forgetEverywhere);
onPress(at("back"), back);
addEventListener("key", (/** @type {any} */ { detail }) => {
  at("hide-names").ariaChecked = String(hiding.get());
  if (key.get() === null) leave(detail);
  else show();
});
addEventListener("keydown", (/** @type {any} */ event) => {
  const editing = event.target.matches("input") || document.querySelector("dialog[open], :popover-open");
  if (editing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && shown?.view.account) back();
});
addEventListener("online", () => {
  if (shown?.listError || shown?.sumsError) show();
  else if (shown?.moreError) loadMore(shown.view, requests.signal, render);
});
addEventListener("scrollend", () => shown?.list && history.state && remember());
addEventListener("copy", copyRows);
for (const event of ["visibilitychange", "pageshow", "focus"]) addEventListener(event, drawAge);
setInterval(drawAge, 15_000);
addEventListener("popstate", () => show());
history.scrollRestoration = "manual";
at("hide-names").ariaChecked = String(hiding.get());
show();
if (key.get() === null) askTabs();
