/** The service's public API, asked with the key of this tab. */

const STORED_AS = "credits-api-key";
const PATIENCE_MS = 60_000;

/** The service refused or could not be asked; `message` is a sentence for the reader, `status` 0 when unreachable. */
export class Refusal extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** The key lives as long as the tab does, and leaves it in a header only. */
export const key = {
  get: () => sessionStorage.getItem(STORED_AS),
  set: (text) => sessionStorage.setItem(STORED_AS, text),
  forget: () => sessionStorage.removeItem(STORED_AS),
};

/**
 * Ask for JSON.
 * @param {"rollup"|"events"|"days"} resource
 * @param {Object<string, string|number|null>} parameters null is left out
 * @param {AbortSignal} signal
 * @returns {Promise<{body: object, asOf: string, since: string|null}>} integers of the body are BigInt
 * @throws {Refusal}
 */
export async function ask(resource, parameters, signal) {
  const patience = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]);
  const [response, text] = await send(resource, parameters, "application/json", patience, (answer) => answer.text());
  const headers = { asOf: response.headers.get("As-Of"), since: response.headers.get("Window-Start") };
  return { body: parse(text), ...headers };
}

/** Ask for the same as a CSV file, whole: a file may take longer than a page. */
export async function askForFile(resource, parameters, signal) {
  const [, file] = await send(resource, parameters, "text/csv", signal, (answer) => answer.blob());
  return file;
}

async function send(resource, parameters, accept, signal, read) {
  const address = new URL(`api/admins/credits/${resource}`, document.baseURI);
  for (const [name, value] of Object.entries(parameters)) {
    if (value != null) address.searchParams.set(name, value);
  }
  try {
    const response = await fetch(address, { headers: { Accept: accept, "x-api-key": key.get() }, signal });
    if (response.ok) return [response, await read(response)];
    throw new Refusal(response.status, await sentenceOf(response));
  } catch (error) {
    if (error instanceof Refusal || error.name === "AbortError") throw error;
    throw new Refusal(0, "The service cannot be reached. Check the connection, then try again.");
  }
}

/** What a proxy in between answers is not the service's envelope. */
async function sentenceOf(response) {
  try {
    const { error } = await response.json();
    if (typeof error === "string") return error;
  } catch {
    // not JSON: said below
  }
  return `The service answered with an error (${response.status}). Try again shortly.`;
}

/** JSON.parse alone would round integers beyond 2^53; the text they are written in is exact. */
function parse(text) {
  try {
    return JSON.parse(text, (_, value, { source }) => (typeof value === "number" ? BigInt(source) : value));
  } catch {
    throw new Refusal(0, "The answer cannot be read: it is not the service's own, or this browser is too old for it.");
  }
}
