/** The time of the service. The clock of this computer, which may be wrong, only says how much time has passed since. */

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
/** So many milliseconds is the service's clock ahead of this computer's, as far as it is known. */
let ahead = 0;

/** Learn the time from the instant of an answer, which is now or earlier. */
export function learn(instant, isNow) {
  const learnt = Date.parse(instant) - Date.now();
  if (isNow || learnt > ahead) ahead = learnt;
}

/** Return the UTC day. */
export function today() {
  return nowAsText().slice(0, 10);
}

/** Return whether an instant of the API has come. */
export function hasCome(instant) {
  return instant <= nowAsText();
}

/** Say how long ago an instant was. */
export function ago(instant) {
  const past = Date.now() + ahead - Date.parse(instant);
  for (const [length, noun] of /** @type {[number, string][]} */ ([[DAY_MS, "day"], [60 * MINUTE_MS, "hour"], [MINUTE_MS, "minute"]])) {
    const count = Math.floor(past / length);
    if (count > 0) return `${count} ${noun}${count === 1 ? "" : "s"} ago`;
  }
  return "just now";
}

/** Return whether there may be newer numbers: after ten minutes, or when another UTC day has begun. */
export function isOld(instant) {
  return Date.now() + ahead - Date.parse(instant) >= 10 * MINUTE_MS || isOfAnotherDay(instant);
}

/** Return whether another UTC day has begun since an instant. */
export function isOfAnotherDay(instant) {
  return instant.slice(0, 10) < today();
}

function nowAsText() {
  return new Date(Date.now() + ahead).toJSON();
}
