/** What this tab keeps until it is closed: the key, and whether names are hidden. It lends both to tabs opened from it. */

const KEY = "credits-api-key";
const HIDING = "credits-hide-names";
/** Its item counts how often the keys were forgotten in all tabs: one that was elsewhere then learns it when it returns. */
const FORGOTTEN = "credits-keys-forgotten";

const thisTab = Math.random();
let lentUntil = 0;
/** @type {BroadcastChannel|null} null in a browser that keeps no data of sites */
let tabs = null;
try {
  tabs = new BroadcastChannel(KEY);
} catch {
  // The key is lent to no other tab.
}

/** What the browser does not keep; a reload loses it. */
const memory = new Map();

function read(area, name) {
  try {
    return globalThis[area].getItem(name);
  } catch {
    return null;
  }
}

/** Keep a text until the tab is closed; return false if the browser keeps it only until a reload. */
function keep(name, text) {
  try {
    sessionStorage.setItem(name, text);
    memory.delete(name);
    return true;
  } catch {
    memory.set(name, text);
    return false;
  }
}

const kept = (name) => memory.get(name) ?? read("sessionStorage", name);
const nameOfKey = () => `${KEY}${read("localStorage", FORGOTTEN) ?? ""}`;

/** The key of the API. It is sent in a header only. */
export const key = {
  get: () => kept(nameOfKey()),
  /** @param {string} text */
  set: (text) => keep(nameOfKey(), text),
};

/** Whether names and addresses are hidden. */
export const hiding = {
  get: () => kept(HIDING) === "true",
  /** @param {boolean} hide */
  set: (hide) => keep(HIDING, String(hide)),
};

/** Forget the key in this tab, which gets the event `key` with the reason for the reader. */
export function forgetKey(reason = "") {
  if (removeKeys()) dispatchEvent(new CustomEvent("key", { detail: reason }));
}

/** Remove the key, also an older one; return whether there was one. */
function removeKeys() {
  const names = [...memory.keys()];
  try {
    names.push(...Object.keys(sessionStorage));
  } catch {
    // All is in the memory.
  }
  const keys = names.filter((name) => name.startsWith(KEY));
  for (const name of keys) {
    memory.delete(name);
    try {
      sessionStorage.removeItem(name);
    } catch {
      // It was in the memory alone.
    }
  }
  return keys.length > 0;
}

/** Forget the key in all tabs; each gets the event `key`. */
export function forgetEverywhere() {
  try {
    localStorage.setItem(FORGOTTEN, String(Number(read("localStorage", FORGOTTEN)) + 1));
  } catch {
    // Only the tabs that are open now learn it.
  }
  tabs?.postMessage({ forgets: true });
  forgetKey();
}

/** Give the key to tabs that ask for it in the next 30 seconds, as the reader is about to open one. */
export function lendKey() {
  lentUntil = performance.now() + 30_000;
}

/** Ask the other tabs for the key. If one of them lends it, this tab gets the event `key`. */
export function askTabs() {
  tabs?.postMessage({ asker: thisTab });
}

tabs?.addEventListener("message", ({ data: { asker, borrower, lent, hides, forgets } }) => {
  if (asker && key.get() !== null && performance.now() < lentUntil) {
    tabs.postMessage({ borrower: asker, lent: key.get(), hides: hiding.get() });
  }
  if (borrower === thisTab && key.get() === null) {
    key.set(lent);
    hiding.set(hides);
    dispatchEvent(new CustomEvent("key", { detail: "" }));
  }
  if (forgets) forgetKey();
});

// The browser may show a page again as it was when it was left.
addEventListener("pageshow", () => {
  if (key.get() === null) forgetKey();
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
