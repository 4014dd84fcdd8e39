/** The receipts: the psql commands that print the numbers of a list or a chart. */

import { ApiError, requestScript } from "./api.js";
import { at, button, element } from "./elements.js";
import { lastDayBefore, previousWindow } from "./format.js";
import { LIMIT, kindOf } from "./state.js";

// So many ids are less than the 128 KiB that Linux allows in an argument.
const MOST_IDS = 3000;

/**
 * The SQL file of some numbers by its address, and the values of its parameters; an edge that a window lacks is null.
 * @typedef {{source: string, values: Object<string, any>}} Receipt
 */

/** @type {(list: import("./state.js").List) => Receipt[]} Return the receipts of all items that are loaded. */
export function listReceipts({ view, instant, since, sources, items, page }) {
  const { by, account_id = "", q } = kindOf(view).queryOf(view);
  const account_ids = items.map((item) => item.account_id);
  const previous = since ? previousWindow(view.period, since, instant) : {};
  const values = {
    ...{ since, until: instant, account_id, by, search: q ?? "", filters: JSON.stringify(view.filters), totals: false, account_ids },
    ...{ previous_since: previous.since, previous_until: previous.as_of },
    // The page does not ask for another order, nor for some of the changes.
    ...{ sort: "created_at", only: "", limit: page * BigInt(LIMIT), offset: 0 },
  };
  return sources.map((source) => ({ source, values }));
}

/** @type {(state: import("./state.js").State) => Receipt[]} Return the receipts of the days, and of those before. */
export function sumsReceipts({ view, sums, previous }) {
  const account_id = view.account ?? "";
  const edges = [{ since: sums.since, until: sums.instant }];
  if (previous) edges.push({ since: previous.since, until: previous.as_of });
  return edges.flatMap((window) => sums.sources.map((source) => (
    { source, values: { account_id, filters: JSON.stringify(view.filters), ...window } }
  )));
}

/** Show the commands that print some numbers, under their title. */
export async function showReceipt(title, receipts) {
  const dialog = at("receipt");
  const place = dialog.querySelector("div");
  const requests = new AbortController();
  const { signal } = requests;
  dialog.querySelector("h2").textContent = `SQL: ${title}`;
  dialog.querySelector("button").addEventListener("click", () => dialog.close(), { signal });
  dialog.addEventListener("close", () => {
    requests.abort();
    place.replaceChildren();
  }, { signal });
  dialog.showModal();
  try {
    const files = await Promise.all(receipts.map(({ source }) => requestScript(source, signal)));
    place.append(...files.map((file, index) => receiptOf(file.script, commandOf(file, receipts[index]))));
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof ApiError)) throw error;
    place.append(element("p", { class: "alert", role: "alert" }, error.message));
  }
}

/**
 * Return a command, or several for a long list of accounts. A file has its parameters as :'since' or :"credits_column".
 */
function commandOf({ script, credits_column }, { source, values }) {
  const since = values.since ?? "-infinity";
  const all = { ...values, credits_column, since, last_day: lastDayBefore(values.until) };
  const names = [...new Set([...script.matchAll(/:(["'])(\w+)\1/g)].map(([, , name]) => name))];
  const commandFor = (account_ids) => {
    const variables = names.map((name) => `-v ${quoted(`${name}=${{ ...all, account_ids }[name]}`)}`);
    return ["PGTZ=UTC psql -X -q -v ON_ERROR_STOP=1", ...variables, `-f sql${source}`].join(" ");
  };
  const ids = names.includes("account_ids") ? [...values.account_ids] : [];
  const commands = [];
  do commands.push(commandFor(`{${ids.splice(0, MOST_IDS).join(",")}}`));
  while (ids.length);
  return commands.join("\n");
}

/** Quote a word for a shell, where it has to be. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function receiptOf(script, command) {
  const code = element("pre", { tabindex: "0", "aria-label": "Command" }, command);
  const copy = button("Copy", async () => {
    // The clipboard is not there without TLS, and may be refused: the reader copies what is selected.
    getSelection().selectAllChildren(code);
    const copied = await navigator.clipboard?.writeText(command).then(() => true, () => false);
    copy.textContent = copied ? "Copied" : "Press Ctrl-C";
  });
  const [title] = script.match(/(?<=^-- ).*/m);
  return element("section", {}, element("p", {}, title), code, copy);
}
