/** The page: reacts to its controls, and shows what the fragment of the URL names, #period=weekly&account=<uuid>. */

import * as account from "./account.js";
import * as accounts from "./accounts.js";
import { askTabs, forgetEverywhere, key, lendKey } from "./api.js";
import { onPress } from "./elements.js";
import { PERIODS, hiding } from "./format.js";
import { askForKey, download, drawHeader, enterKey, leave, load, loadMore, shown } from "./session.js";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const at = (id) => document.getElementById(id);
const periodButtons = [...document.querySelectorAll("[data-period]")];
let scrolledTo = 0;

/** Return the period and the account's id of the fragment. Unknown values become the defaults, `monthly` and null. */
function readFragment() {
  const named = new URLSearchParams(location.hash.slice(1));
  const period = named.get("period");
  const id = (named.get("account") ?? "").toLowerCase();
  return { period: Object.hasOwn(PERIODS, period) ? period : "monthly", id: UUID.test(id) ? id : null };
}

/** Show a view as a new entry of the history; `fromList` if the entry before it is the list. */
function goTo({ period, id }, fromList = false) {
  history.pushState({ fromList }, "", accounts.addressOf(period, id));
  show();
}

/** Show what the fragment names, or ask for the key. */
function show() {
  if (key.get() === null) return askForKey();
  at("report").hidden = at("tools").hidden = false;
  at("download-notice").replaceChildren();
  const { period, id } = readFragment();
  for (const button of periodButtons) button.ariaPressed = String(button.dataset.period === period);
  const before = shown();
  const view = id ? account : accounts;
  accounts.list.section.hidden = view !== accounts;
  account.list.section.hidden = view !== account;
  if (view === account) showAccount({ period, account_id: id }, before !== view);
  else showAccounts({ period }, before !== view);
  drawHeader();
}

async function showAccounts(query, returning) {
  const loading = accounts.list.has(query) ? null : load(accounts, query);
  if (!returning) return;
  if (loading) {
    focusHeading();
    await loading;
    // The reader may have moved the focus meanwhile.
    if (document.activeElement !== at("accounts-heading")) return;
  }
  scrollTo(0, scrolledTo);
  const row = accounts.list.rowOf(account.list.query?.account_id);
  if (row) accounts.list.focusRow(row);
  else focusHeading();
}

async function showAccount(query, opening) {
  // As of the instant of the row that was pressed, so that the numbers are the same.
  const asOf = accounts.list.query?.period === query.period ? accounts.list.asOf : null;
  if (account.list.query?.account_id !== query.account_id) account.setGrants([]);
  const known = account.list.has(query) && (asOf === null || account.list.asOf === asOf);
  const loading = known ? null : load(account, query, asOf);
  if (opening) focusHeading();
  await loading;
  loadAccountsBehind();
}

/** Load the list of accounts while an account is shown: it has the account's name, and Back shows it. */
async function loadAccountsBehind() {
  if (shown() !== account || account.list.asOf === null || key.get() === null) return;
  const { list } = accounts;
  const { asOf, query } = account.list;
  const { period } = query;
  if (list.has({ period }) && (list.isLoading() || list.asOf === asOf)) return;
  await load(accounts, { period }, asOf);
  drawNames();
}

function focusHeading() {
  scrollTo(0, 0);
  shown().list.section.querySelector("h2").focus({ preventScroll: true });
}

function open(id) {
  scrolledTo = scrollY;
  goTo({ ...readFragment(), id }, true);
}

function back() {
  if (history.state?.fromList) history.back();
  else goTo({ ...readFragment(), id: null });
}

function hideNames(hide) {
  hiding.set(hide);
  at("hide-names").ariaChecked = String(hide);
  if (accounts.list.count !== null) accounts.draw();
  drawNames();
}

/** Draw the names outside the list of accounts again. */
function drawNames() {
  if (key.get() === null) return;
  account.drawGrants();
  drawHeader();
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!enterKey()) return;
  show();
  focusHeading();
});
for (const button of periodButtons) {
  button.addEventListener("click", () => {
    const view = readFragment();
    const { period } = button.dataset;
    if (period !== view.period) goTo({ ...view, period });
  });
}
// The whole row is a target for a pointer, unless the press selects text.
accounts.list.parts.table.addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-id]");
  if (!row || !getSelection().isCollapsed || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  open(row.dataset.id);
});
// The reader may be opening a link in another tab.
for (const press of ["click", "auxclick", "contextmenu"]) {
  addEventListener(press, ({ target }) => target.closest("a") && lendKey(), true);
}
for (const view of [accounts, account]) onPress(view.list.parts.more, () => loadMore(view));
onPress(at("refresh"), async () => {
  const view = shown();
  await load(view, view.list.query);
  loadAccountsBehind();
});
onPress(at("download"), download);
onPress(at("hide-names"), () => hideNames(!hiding.get()));
onPress(at("forget-key"), () => {
  forgetEverywhere();
  leave("");
});
addEventListener("key", () => {
  at("hide-names").ariaChecked = String(hiding.get());
  at("key-form").hidden = true;
  if (key.get() === null) leave("");
  else show();
});
onPress(at("back"), back);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && shown() === account && key.get() !== null) back();
});
addEventListener("popstate", show);
history.scrollRestoration = "manual";
at("hide-names").ariaChecked = String(hiding.get());
show();
if (key.get() === null) askTabs();
