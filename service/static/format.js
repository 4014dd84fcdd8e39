/** How numbers and times are written. Integers are BigInt: sums may exceed 2^53. */

const INTEGER = new Intl.NumberFormat("en");
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const MONTH = new Intl.DateTimeFormat("en-GB", { month: "long", year: "numeric", timeZone: "UTC" });
const DAY_US = 86_400_000_000n;
const DAYS = { daily: 1n, weekly: 7n, monthly: 30n };
const LOCAL = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const LOCAL_TIME = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
});

/** The name of the reader's time zone. */
export const zone = LOCAL.resolvedOptions().timeZone;

/** 1234567n is "1,234,567". The minus sign is U+2212. */
export function integer(value) {
  return INTEGER.format(value).replace("-", "−");
}

/** 1234567n is "1.23M". */
export function compact(value) {
  return COMPACT.format(value).replace("-", "−");
}

/** "1 account", "2 accounts". */
export function counted(value, noun) {
  return `${integer(value)} ${noun}${value === 1n ? "" : "s"}`;
}

/** "agent type" is "Agent type". */
export function capitalized(noun) {
  return noun[0].toUpperCase() + noun.slice(1);
}

/** Write credits in dollars, at the rate of the service. */
export function dollars(credits) {
  return dollarsAt(document.body.dataset.creditsPerUsd)(credits);
}

/**
 * Return a function that writes credits in dollars. It divides integers and rounds once, half away from zero, to cents.
 * @param {string} creditsPerUsd a positive decimal number
 * @returns {(credits: bigint) => string}
 */
export function dollarsAt(creditsPerUsd) {
  const [whole, decimals = ""] = creditsPerUsd.split(".");
  const divisor = BigInt(whole + decimals) * 2n;
  const factor = 10n ** BigInt(decimals.length) * 200n;
  return (credits) => {
    const [sign, size] = credits < 0n ? ["−", -credits] : ["", credits];
    const cents = (size * factor + divisor / 2n) / divisor;
    if (size > 0n && cents === 0n) return credits < 0n ? "> −$0.01" : "< $0.01";
    return `${sign}$${INTEGER.format(cents / 100n)}.${String(cents % 100n).padStart(2, "0")}`;
  };
}

/** Write a part of a whole as a percentage with one decimal; null unless the part is from nothing to a positive whole. */
export function percent(part, whole) {
  if (whole <= 0n || part < 0n || part > whole) return null;
  const thousandths = (part * 2000n + whole) / (whole * 2n);
  return part > 0n && thousandths === 0n ? "< 0.1%" : `${thousandths / 10n}.${thousandths % 10n}%`;
}

/**
 * Write how a number changed, "+12%", "none before" or "same"; as a difference where there is no percentage.
 * @param {bigint} now
 * @param {bigint} before
 * @param {bigint} eventsBefore the number of events then: what they add up to may be 0
 */
export function change(now, before, eventsBefore = before) {
  return relativeChange(now, before, eventsBefore) ?? signed(now - before);
}

/**
 * The same; null where there is no percentage.
 * @type {(now: bigint, before: bigint, eventsBefore: bigint) => string|null}
 */
export function relativeChange(now, before, eventsBefore) {
  if (now === before) return "same";
  if (eventsBefore === 0n && now > 0n) return "none before";
  if (before <= 0n || now < 0n) return null;
  const [sign, size] = now < before ? ["−", before - now] : ["+", now - before];
  // Each is rounded once, half up.
  const tenths = (size * 2000n + before) / (before * 2n);
  const whole = (size * 200n + before) / (before * 2n);
  if (tenths === 0n) return now < before ? "> −0.1%" : "< +0.1%";
  if (tenths < 100n) return `${sign}${tenths / 10n}.${tenths % 10n}%`;
  // −100% would mean that nothing was spent.
  return now > 0n && now < before && whole === 100n ? "> −100%" : `${sign}${INTEGER.format(whole)}%`;
}

/** Write a difference with its sign. */
export function signed(difference) {
  return difference > 0n ? `+${integer(difference)}` : integer(difference);
}

/** Write a difference in dollars with its sign. */
export function signedDollars(difference) {
  return difference > 0n ? dollars(difference).replace("$", "+$$") : dollars(difference);
}

/** Return part / whole as a Number from 0 to 1, for lengths of bars. */
export function ratio(part, whole) {
  if (part <= 0n || whole <= 0n) return 0;
  return Math.min(1, Number((part * 1_000_000n) / whole) / 1_000_000);
}

/** Write one or two UTC days ("2026-11-22") as "22 Nov 2026" or "16 – 22 Nov 2026"; "0044-03-15 BC" stays as it is. */
export function days(first, last = first) {
  const [from, to] = [Date.parse(first), Date.parse(last)];
  return isNaN(from + to) ? [...new Set([first, last])].join(" – ") : DAY.formatRange(from, to);
}

/** Write a UTC month ("2026-11") as "November 2026". */
export function month(text) {
  return MONTH.format(new Date(text));
}

/** Return the last day of a UTC month. */
export function lastDayOf(month) {
  const [year, number] = month.split("-").map(Number);
  return new Date(Date.UTC(year, number, 0)).toJSON().slice(0, 10);
}

/** Return the end of a day, as the API spells instants. */
export function endOf(day) {
  return instantOf(microseconds(`${day}T00:00:00`) + DAY_US);
}

/** Return the last day before an instant. */
export function lastDayBefore(instant) {
  return instantOf(microseconds(instant) - 1n).slice(0, 10);
}

/**
 * Return the edges of the previous window as the API names them: the same span earlier.
 * @param {string|null} period a window of N days is compared with N days earlier, any other with the time before it
 * @param {string} since the start of the window
 * @param {string} asOf its end
 */
export function previousWindow(period, since, asOf) {
  const [start, end] = [microseconds(since), microseconds(asOf)];
  const span = period ? DAYS[period] * DAY_US : end - start;
  return { since: instantOf(start - span), as_of: instantOf(end - span) };
}

function microseconds(instant) {
  const [, seconds, decimals = ""] = /^(.{19})(?:\.(\d+))?/.exec(instant);
  return BigInt(Date.parse(`${seconds}Z`)) * 1000n + BigInt(decimals.padEnd(6, "0"));
}

function instantOf(microseconds) {
  // Before 1970 the number is negative; the decimals are not.
  const decimals = ((microseconds % 1_000_000n) + 1_000_000n) % 1_000_000n;
  const seconds = new Date(Number((microseconds - decimals) / 1000n)).toJSON().slice(0, 19);
  return `${seconds}.${String(decimals).padStart(6, "0")}Z`;
}

/** Write "2026-11-22T10:15:00.000000+00:00" in the reader's time zone, to the second; "infinity" stays as it is. */
export function local(instant) {
  const date = Date.parse(instant);
  return isNaN(date) ? instant : LOCAL.format(date);
}

/** The same without year and seconds, with the name of the time zone. */
export function localTime(instant) {
  return LOCAL_TIME.format(new Date(instant));
}

/** The same in UTC, with all digits. */
export function utc(instant) {
  return instant.replace("T", " ").replace(/(\.0+)?(\+00:00|Z)$/, " UTC").replace("+00:00", " UTC");
}
