/** What this tab keeps until it is closed: the key, and whether names are hidden. It lends both to tabs opened from it. */

const KEY = "credits-api-key";
const HIDING = "credits-hide-names";

const tabs = new BroadcastChannel(KEY);
const thisTab = Math.random();
let lentUntil = 0;

/** The key of the API. It is sent in a header only. */
export const key = {
  get: () => sessionStorage.getItem(KEY),
  /** @param {string} text */
  set: (text) => sessionStorage.setItem(KEY, text),
};

/** Whether names and addresses are hidden. */
export const hiding = {
  get: () => sessionStorage.getItem(HIDING) === "true",
  /** @param {boolean} hide */
  set: (hide) => sessionStorage.setItem(HIDING, String(hide)),
};

/** Forget the key in this tab, which gets the event `key` with the reason for the reader. */
export function forgetKey(reason = "") {
  sessionStorage.removeItem(KEY);
  dispatchEvent(new CustomEvent("key", { detail: reason }));
}

/** Forget the key in all tabs; each gets the event `key`. */
export function forgetEverywhere() {
  tabs.postMessage({ forgets: true });
  forgetKey();
}

/** Give the key to tabs that ask for it in the next 30 seconds, as the reader is about to open one. */
export function lendKey() {
  lentUntil = performance.now() + 30_000;
}

/** Ask the other tabs for the key. If one of them lends it, this tab gets the event `key`. */
export function askTabs() {
  tabs.postMessage({ asker: thisTab });
}

tabs.addEventListener("message", ({ data: { asker, borrower, lent, hides, forgets } }) => {
  if (asker && key.get() !== null && performance.now() < lentUntil) {
    tabs.postMessage({ borrower: asker, lent: key.get(), hides: hiding.get() });
  }
  if (borrower === thisTab && key.get() === null) {
    key.set(lent);
    hiding.set(hides);
    dispatchEvent(new CustomEvent("key", { detail: "" }));
  }
  if (forgets && key.get() !== null) forgetKey();
});

// Separators, controls, and characters that are drawn as nothing
const INVISIBLE = /^[\p{Z}\p{C}\p{Default_Ignorable_Code_Point}\u2800]*$/u;

/** @typedef {{account_name?: string|null, account_email?: string|null}} Account */

/**
 * Return what the page calls an account.
 * @param {string} id
 * @param {Account|null} [account] undefined while it is not loaded
 * @returns {{name: string, address: string|null, standIn: boolean}} standIn: `name` is made from the id
 */
export function naming(id, account) {
  const standIn = `Account ${id.slice(0, 8)}`;
  if (hiding.get()) return { name: standIn, address: null, standIn: true };
  const [name, address] = [account?.account_name, account?.account_email].map((text) => (INVISIBLE.test(text ?? "") ? null : text.trim()));
  return { name: name ?? standIn, address, standIn: name === null };
}

/** Return what to ask the API for: it finds the name that the page makes of an id by the id. */
export function sought(text) {
  return /^account ([\da-f]{8})$/i.exec(text)?.[1] ?? text;
}
