/** The requests to the service's public API. */

import { learn } from "./clock.js";
import { forgetKey, key } from "./tab.js";

const TIMEOUT_MS = 60_000;
const REFUSALS = {
  401: "This key is unknown or has expired. Enter another key.",
  403: "This key is valid, but its owner is not an administrator. Enter an administrator's key.",
};

/**
 * A request that failed. `message` is a sentence for the reader; `status` is 0 without a usable answer; `fields` are the names
 * of the parameters that were refused.
 */
export class ApiError extends Error {
  constructor(status, sentence, fields = []) {
    super(sentence);
    this.status = status;
    this.fields = fields;
  }
}

/**
 * Request JSON.
 * @param {"rollup"|"changes"|"breakdown"|"events"|"days"} resource
 * @param {Object<string, string|number|bigint>} parameters
 * @param {AbortSignal} signal
 * @returns {Promise<{body: any, instant: string, since: string|null, sources: string[]}>} integers of the body are BigInt;
 *   it is as of `instant`; `since` is the start of the window, null when it has none; `sources` are the addresses of the SQL
 *   files that it came from
 * @throws {ApiError}
 */
export async function requestJson(resource, parameters, signal) {
  const either = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
  const [{ headers }, text] = await request(addressOf(resource, parameters), "application/json", either, "text");
  const sources = [...(headers.get("Link") ?? "").matchAll(/<([^>]*)>; rel="describedby"/g)].map(([, address]) => address);
  const instant = headers.get("As-Of");
  learn(instant, !parameters.as_of);
  return { body: parse(text), instant, since: headers.get("Window-Start"), sources };
}

/**
 * Request all rows as a file of a media type. It may take longer than a page, so there is no timeout.
 * @returns {Promise<{file: Blob, instant: string}>}
 */
export async function requestFile(resource, parameters, type, signal) {
  const [{ headers }, file] = await request(addressOf(resource, parameters), type, signal, "blob");
  return { file, instant: headers.get("As-Of") };
}

/**
 * Request an SQL file by the address that an answer gave.
 * @returns {Promise<{script: string, credits_column: string}>} the file, and the name of the column of credits in the database
 *   that the service reads now
 */
export async function requestScript(address, signal) {
  const [{ headers }, script] = await request(address.slice(1), "text/plain", signal, "text");
  return { script, credits_column: headers.get("Credits-Column") };
}

function addressOf(resource, parameters) {
  return `api/admins/credits/${resource}?${new URLSearchParams(parameters)}`;
}

/** Send a request to an address below the page's; `read` is the method that reads its body. A refused key is forgotten. */
async function request(address, accept, signal, read) {
  const used = key.get();
  try {
    const response = await fetch(address, { headers: { Accept: accept, "x-api-key": used }, signal });
    if (response.ok) return [response, await response[read]()];
    if (response.status in REFUSALS && key.get() === used) forgetKey(REFUSALS[response.status]);
    throw await errorOf(response);
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError(0, "The service cannot be reached. Check the connection, then try again.");
  }
}

/** Return the error of the service; one of a proxy has no sentence. */
async function errorOf(response) {
  try {
    const { error, missing_fields: fields } = await response.json();
    if (typeof error === "string") return new ApiError(response.status, error, fields);
  } catch {
    // The body is not JSON.
  }
  return new ApiError(response.status, `The service answered with an error (${response.status}). Try again shortly.`);
}

/** Parse JSON with every number as a BigInt of its source text: a Number is not exact beyond 2^53. */
function parse(text) {
  try {
    return JSON.parse(text, /** @type {any} */ ((_, value, { source }) => (typeof value === "number" ? BigInt(source) : value)));
  } catch {
    throw new ApiError(0, "The answer cannot be read. A proxy may have sent it, or this browser is too old.");
  }
}
