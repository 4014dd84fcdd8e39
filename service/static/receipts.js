/** The receipts: the psql commands that print the numbers of a list or a chart. */

import { ApiError, key, requestText } from "./api.js";
import { button, element } from "./elements.js";
import { lastDayBefore, today } from "./format.js";

// So many ids are less than the 128 KiB that Linux allows in an argument.
const MOST_IDS = 3000;

const dialog = document.getElementById("receipt");
let requests = new AbortController();

/**
 * Show the commands for some numbers.
 * @param {string} title of the numbers
 * @param {{source: string, values: Object<string, string|number|bigint|string[]|null>}[]} receipts the address of each file
 *   that they came from, and the values of its parameters; a window without an edge has null there
 */
export async function showReceipt(title, receipts) {
  dialog.querySelector("h2").textContent = `SQL: ${title}`;
  const place = dialog.querySelector("div");
  dialog.showModal();
  const { signal } = requests;
  try {
    const scripts = await Promise.all(receipts.map(({ source }) => requestText(source, signal)));
    const credits_column = await creditsColumn(receipts[0].source, signal);
    place.append(...scripts.map((script, index) => receiptOf(script, commandOf(script, receipts[index], credits_column))));
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof ApiError)) throw error;
    place.append(element("p", { class: "alert", role: "alert" }, error.message));
  }
}

/** Return the name of the column of credits in the database that the service reads now. */
async function creditsColumn(address, signal) {
  const options = { method: "HEAD", headers: { "x-api-key": key.get() }, signal };
  const answer = await fetch(address.slice(1), options).catch(() => null);
  const name = answer?.headers.get("Credits-Column");
  if (!name) throw new ApiError(0, "The service cannot be reached. Check the connection, then try again.");
  return name;
}

/**
 * Return a command, or several for a long list of accounts. The header of a file names its parameters:
 * "--   :since   timestamptz  start of the window".
 */
function commandOf(script, { source, values }, credits_column) {
  const { since, until } = values;
  const last_day = until ? lastDayBefore(until) : today();
  const all = { ...values, credits_column, since: since ?? "-infinity", until: until ?? "infinity", last_day };
  const names = [...script.matchAll(/^-- {3}:(\w+) /gm)].map(([, name]) => name);
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

dialog.querySelector("button").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => {
  requests.abort();
  requests = new AbortController();
  dialog.querySelector("div").replaceChildren();
});
