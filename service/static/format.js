/** Numbers and times as a person reads them. Integers are BigInt throughout: sums may pass 2^53. */

const INTEGER = new Intl.NumberFormat("en");
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const LOCAL = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const LOCAL_TIME = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });

/** The reader's time zone by name. */
export const zone = LOCAL.resolvedOptions().timeZone;

/** 1234567n is 1,234,567; with a true minus sign. */
export function integer(value) {
  return INTEGER.format(value).replace("-", "−");
}

/** 1234567n is 1.2M: for the marks of an axis only. */
export function compact(value) {
  return COMPACT.format(value).replace("-", "−");
}

/** "1 account", "2 accounts". */
export function counted(value, noun) {
  return `${integer(value)} ${noun}${value === 1n ? "" : "s"}`;
}

/**
 * Return how credits become dollars: exact division of integers, rounded once, half away from zero, to cents.
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

/** Return a part's share in per cent, one decimal; null where the whole is nothing to have a share of. */
export function percent(part, whole) {
  if (whole <= 0n) return null;
  const [sign, size] = part < 0n ? ["−", -part] : ["", part];
  const thousandths = (size * 2000n + whole) / (whole * 2n);
  if (size > 0n && thousandths === 0n) return part < 0n ? "> −0.1%" : "< 0.1%";
  return `${sign}${INTEGER.format(thousandths / 10n)}.${thousandths % 10n}%`;
}

/** Return part / whole between 0 and 1 as a number, for what is drawn. */
export function ratio(part, whole) {
  if (part <= 0n || whole <= 0n) return 0;
  return Math.min(1, Number((part * 1_000_000n) / whole) / 1_000_000);
}

/** Return one or two UTC days ("2026-11-22") as "22 Nov 2026" or "16 – 22 Nov 2026". */
export function days(first, last = first) {
  return DAY.formatRange(new Date(first), new Date(last));
}

/** "2026-11-22T10:15:00.000000+00:00" in the reader's zone, to the second. */
export function local(instant) {
  return LOCAL.format(new Date(instant));
}

/** The same without the day and the seconds. */
export function localTime(instant) {
  return LOCAL_TIME.format(new Date(instant));
}

/** The same in UTC, as exact as it came. */
export function utc(instant) {
  return instant.replace("T", " ").replace(/(\.0+)?(\+00:00|Z)$/, " UTC").replace("+00:00", " UTC");
}
