/** The form that asks for the key. */

import { key } from "./api.js";

// Statuses that mean another key is needed; whatever else is refused is said where the answer would have been.
const PROBLEMS = {
  401: "The service does not know this key, or it has expired. Enter another one.",
  403: "This key is valid, but its owner is not an administrator. Enter an administrator's key.",
};
const MALFORMED = "This cannot be a key: keys are made of Latin letters, digits and signs, without spaces.";

const form = document.getElementById("key-form");
const field = document.getElementById("key");
const words = document.getElementById("key-problem");

/** Return why another key is needed, undefined when the refusal is not the key's fault. */
export function problemOfKey({ status }) {
  return PROBLEMS[status];
}

/** Show the form, with what was wrong with the last key. */
export function askForKey(problem = "") {
  form.hidden = false;
  words.hidden = !problem;
  words.textContent = problem;
  field.ariaInvalid = problem ? "true" : null;
  field.focus();
}

/** Call back whenever a key has been entered. */
export function onKey(entered) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    field.value = "";
    // Nothing else can be sent in a header.
    if (!/^[\x21-\x7e]+$/.test(text)) return askForKey(MALFORMED);
    key.set(text);
    form.hidden = true;
    entered();
  });
}
