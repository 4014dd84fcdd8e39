/** The page: which list is shown, and what is around it. */

import { drawGrants, drawIdentity, eventsKind } from "./account.js";
import { accountsKind } from "./accounts.js";
import { key } from "./api.js";
import { downloadCsv } from "./download.js";
import { element, onPress } from "./elements.js";
import { askForKey, onKey, problemOfKey } from "./entry.js";
import { days, dollarsAt, localTime, utc } from "./format.js";
import { PERIODS, goTo, readFragment } from "./fragment.js";
import { hiding } from "./naming.js";
import { Report } from "./report.js";

const at = (id) => document.getElementById(id);
const periods = [...document.querySelectorAll("[data-period]")];
const page = { dollars: dollarsAt(document.body.dataset.creditsPerUsd), say, changed, refused };
const accounts = new Report(at("accounts"), accountsKind(page.dollars, open), page);
const account = new Report(at("account"), eventsKind(page.dollars, showGrants), page);
let shown = accounts;
let grants = [];
let scrolledTo = 0;

/** Show what the fragment names, or ask for the key first. */
function show() {
  const entered = key.get() !== null;
  at("report").hidden = at("tools").hidden = !entered;
  if (!entered) {
    document.title = "Top spenders";
    askForKey();
    return;
  }
  const view = readFragment();
  const before = shown;
  shown = view.account ? account : accounts;
  accounts.root.hidden = shown !== accounts;
  account.root.hidden = shown !== account;
  at("download-notice").replaceChildren();
  for (const one of periods) one.ariaPressed = String(one.dataset.period === view.period);
  if (shown === account) showAccount(view, before !== shown);
  else showAccounts(view, before !== shown);
  changed();
}

async function showAccounts({ period }, returning) {
  const loading = accounts.has({ period }) ? null : accounts.load({ period });
  if (!returning) return;
  if (loading) {
    focusHeading();
    await loading;
    // Meanwhile the reader may have gone on.
    if (document.activeElement !== at("accounts-heading")) return;
  }
  scrollTo(0, scrolledTo);
  if (!accounts.focusRow(account.query?.account_id)) focusHeading();
}

async function showAccount({ period, account: id }, opening) {
  const query = { period, account_id: id };
  // The numbers of the row that was pressed: the same instant, unless there is no list yet.
  const pin = accounts.query?.period === period ? accounts.pin : null;
  if (account.query?.account_id !== id) showGrants({ grants: [] });
  const known = account.has(query) && (pin === null || account.pin === pin);
  const loading = known ? null : account.load(query, pin);
  if (opening) focusHeading();
  await loading;
  loadBehind();
}

/** A linked account has its name in the list, and Back leads there: load it behind, as of the same instant. */
async function loadBehind() {
  if (shown !== account || account.pin === null || key.get() === null) return;
  const { period } = account.query;
  if (accounts.has({ period }) && (accounts.isAsking() || accounts.pin === account.pin)) return;
  await accounts.load({ period }, account.pin);
  showNames();
}

function focusHeading() {
  scrollTo(0, 0);
  shown.root.querySelector("h2").focus({ preventScroll: true });
}

/** Show what depends on the list that is shown: its dates, its title. */
function changed() {
  const { pin, since } = shown;
  const first = shown.days?.[0]?.day ?? since?.slice(0, 10);
  const last = shown.days?.at(-1)?.day ?? pin?.slice(0, 10);
  at("window").textContent = !last ? "" : first ? days(first, last) : `until ${days(last)}`;
  const time = pin && element("time", { datetime: pin, title: utc(pin) }, localTime(pin));
  at("updated").replaceChildren(...(time ? ["UTC days, as of ", time] : []));
  const { period, account: id } = readFragment();
  document.title =
    shown === account ? `${drawIdentity(at("identity"), id, accountOf(id))} · Credits` : `Top spenders ${PERIODS[period]}`;
}

function accountOf(id) {
  return accounts.items.find(({ account_id }) => account_id === id);
}

function showGrants(body) {
  ({ grants } = body);
  drawGrants(at("grants"), grants, accountOf);
}

/** Show names again where they stand outside the list of all accounts. */
function showNames() {
  showGrants({ grants });
  changed();
}

function say(text) {
  at("status").textContent = text;
}

/** Ask for another key when it is the key that was refused. */
function refused(refusal) {
  const problem = problemOfKey(refusal);
  if (problem) leave(problem);
  return Boolean(problem);
}

function leave(problem) {
  key.forget();
  for (const report of [accounts, account]) report.clear();
  showGrants({ grants: [] });
  show();
  askForKey(problem);
}

function open(id) {
  scrolledTo = scrollY;
  goTo({ period: readFragment().period, account: id }, true);
  show();
}

function back() {
  if (history.state?.fromList) return history.back();
  goTo({ period: readFragment().period, account: null });
  show();
}

function hideNames(hide) {
  hiding.set(hide);
  at("hide-names").ariaChecked = String(hide);
  if (accounts.count !== null) accounts.draw();
  showNames();
}

onKey(() => {
  show();
  focusHeading();
});
for (const one of periods) {
  one.addEventListener("click", () => {
    const view = readFragment();
    if (one.dataset.period === view.period) return;
    goTo({ ...view, period: one.dataset.period });
    show();
  });
}
onPress(at("refresh"), async () => {
  await shown.load(shown.query);
  loadBehind();
});
onPress(at("download"), () => downloadCsv(shown, at("download-notice")));
onPress(at("hide-names"), () => hideNames(!hiding.get()));
onPress(at("forget-key"), () => leave(""));
onPress(at("back"), back);
document.addEventListener("keydown", ({ key: pressed }) => {
  if (pressed === "Escape" && shown === account && key.get() !== null) back();
});
addEventListener("popstate", show);
history.scrollRestoration = "manual";
at("hide-names").ariaChecked = String(hiding.get());
show();
