/** The chart of credits by day, and the same numbers as a table. */

import { drawing, element, rowOf, tableOf } from "./elements.js";
import { compact, counted, days as span, dollars, integer, ratio } from "./format.js";

// More bars would be too narrow: longer windows get a bar for every 7 or 28 days.
const MAX_BARS = 200;
const STEPS = [
  { length: 1, name: "day" },
  { length: 7, name: "7 days" },
  { length: 28, name: "28 days" },
];
const ROUND = [10n, 15n, 20n, 25n, 30n, 40n, 50n, 60n, 80n, 100n];

/**
 * Make the chart of a window.
 * @param {{day: string, total_credits_deducted_cents: bigint, event_count: bigint}[]} days every day, oldest first
 * @param {string} asOf the end of the window; a day that it falls into is partial
 * @param {Node} beside goes beside the heading
 * @returns {Node[]}
 */
export function chartOf(days, asOf, beside) {
  if (!days.length) return [];
  const step = STEPS.find(({ length }) => days.length <= MAX_BARS * length) ?? STEPS.at(-1);
  const bars = inSteps(days, step.length, asOf);
  const say = (bar) => `${nameOf(bar)}: ${counted(bar.credits, "credit")}, ${dollars(bar.credits)}`;
  const most = bars.reduce((one, other) => (other.credits > one.credits ? other : one));
  const resting = most.credits > 0n ? `Most ${step.length === 1 ? "on" : "in"} ${say(most)}` : "";

  const title = element("div", { class: "title" }, element("h2", {}, `Credits by ${step.name}`), beside);
  const readout = element("p", { class: "hint readout", "aria-hidden": "true" }, resting);
  const scale = scaleOf(bars);
  const shapes = bars.map((bar, index) => barOf(bar, index, bars.length, scale));
  const lines = scale.marks.map((mark) => drawing("line", { x1: "0", x2: "100%", y1: scale.y(mark), y2: scale.y(mark) }));
  const label = `Credits by ${step.name}, ${span(days[0].day, days.at(-1).day)}. ${resting}`;
  const plot = drawing("svg", { role: "img", "aria-label": label }, ...lines, ...shapes);
  const sayAll = (bar) => `${say(bar)}, ${counted(bar.events, "event")}`;
  // The keys of a slider go from bar to bar.
  const slider = element("input", { type: "range", class: "unseen", max: bars.length - 1, "aria-label": `Credits by ${step.name}` });
  slider.value = String(bars.length - 1);
  readBars(plot, slider, shapes, (index) => {
    readout.textContent = index === null ? resting : sayAll(bars[index]);
    slider.ariaValueText = sayAll(bars[Number(slider.value)]);
  });
  const marks = scale.marks.map((mark) => {
    const text = element("span", {}, compact(mark));
    text.style.top = scale.y(mark);
    return text;
  });
  const ends = [span(days[0].day), nameOf({ first: days.at(-1).day, partial: isPartial(days.at(-1).day, asOf) })];
  if (days.length === 1) ends.shift();
  return [
    element("div", { class: "head" }, title, readout),
    element(
      "div",
      { class: "plot" },
      element("div", { class: "marks", "aria-hidden": "true" }, ...marks),
      slider,
      plot,
      element("div", { class: "ends", "aria-hidden": "true" }, ...ends.map((end) => element("span", {}, end))),
    ),
    numbersOf(days, asOf),
  ];
}

function nameOf({ first, last = first, partial }) {
  return `${span(first, last)}${partial ? ", so far" : ""}`;
}

function isPartial(day, asOf) {
  return asOf > `${day}T00:00:00.000000Z` && asOf.startsWith(day);
}

/** The newest step is whole: one of a few days would look like a fall. */
function inSteps(days, length, asOf) {
  const bars = [];
  for (let end = days.length; end > 0; end -= length) {
    const part = days.slice(Math.max(0, end - length), end);
    const sum = (name) => part.reduce((total, day) => total + day[name], 0n);
    const [credits, events] = [sum("total_credits_deducted_cents"), sum("event_count")];
    const last = part.at(-1).day;
    bars.unshift({ first: part[0].day, last, credits, events, partial: isPartial(last, asOf) });
  }
  return bars;
}

/** Sums may be negative, where credits were given back: their bars go down from the zero line. */
function scaleOf(bars) {
  const highest = roundUp(bars.reduce((top, { credits }) => (credits > top ? credits : top), 0n));
  const lowest = -roundUp(-bars.reduce((bottom, { credits }) => (credits < bottom ? credits : bottom), 0n));
  const height = highest - lowest;
  const share = (credits) => ratio(credits - lowest, height) * 100;
  const marks = height === 0n ? [0n] : [...new Set([highest, lowest < 0n ? 0n : highest / 2n, lowest])];
  return { share, marks, y: (credits) => `${(100 - share(credits)).toFixed(3)}%` };
}

function roundUp(size) {
  if (size === 0n) return 0n;
  const power = 10n ** BigInt(String(size).length - 1);
  return ROUND.map((tenths) => (tenths * power) / 10n).find((round) => round >= size);
}

function barOf({ credits, partial }, index, count, { share }) {
  const zero = share(0n);
  // Keep nonzero bars visible.
  const height = credits === 0n ? 0 : Math.max(Math.abs(share(credits) - zero), 0.7);
  const slot = 100 / count;
  return drawing("rect", {
    class: [credits < 0n && "below", partial && "partial"].filter(Boolean).join(" "),
    x: `${(slot * (index + 0.12)).toFixed(3)}%`,
    width: `${(slot * 0.76).toFixed(3)}%`,
    y: `${(100 - zero - (credits < 0n ? 0 : height)).toFixed(3)}%`,
    height: `${height.toFixed(3)}%`,
    rx: "1.5",
  });
}

/** Show a bar while a pointer or the slider is at it. */
function readBars(plot, slider, shapes, show) {
  let shown = null;
  const point = (index) => {
    if (index !== null) slider.value = String(index);
    shapes[shown]?.classList.remove("pointed");
    shapes[index]?.classList.add("pointed");
    shown = index;
    show(index);
  };
  const follow = ({ clientX }) => {
    const { left, width } = plot.getBoundingClientRect();
    point(Math.max(0, Math.min(shapes.length - 1, Math.floor(((clientX - left) / width) * shapes.length))));
  };
  plot.addEventListener("pointerdown", follow);
  plot.addEventListener("pointermove", follow);
  // A finger leaves when it is lifted; its bar stays shown.
  plot.addEventListener("pointerleave", ({ pointerType }) => pointerType !== "touch" && point(null));
  for (const event of ["focus", "input"]) slider.addEventListener(event, () => point(Number(slider.value)));
  slider.addEventListener("blur", () => point(null));
  point(null);
}

/** The table is made when it is opened, as it may have thousands of rows. */
function numbersOf(days, asOf) {
  const columns = [
    { label: "Day (UTC)", kind: "day", header: true, cell: ({ day }) => nameOf({ first: day, partial: isPartial(day, asOf) }) },
    { label: "Credits", kind: "number", cell: ({ total_credits_deducted_cents: credits }) => integer(credits) },
    { label: "Dollars", kind: "number hint", cell: ({ total_credits_deducted_cents: credits }) => dollars(credits) },
    { label: "Events", kind: "number", cell: ({ event_count: events }) => integer(events) },
  ];
  const frame = element("div", { class: "scroll", role: "region", "aria-label": "Numbers by day", tabindex: "0" });
  const details = element("details", {}, element("summary", {}, "Numbers by day"), frame);
  const fill = () => {
    const { table, body } = tableOf("Credits by day, newest first", columns, { class: "plain" });
    body.append(...days.toReversed().map((day) => rowOf(columns, day)));
    frame.append(table);
  };
  details.addEventListener("toggle", fill, { once: true });
  return details;
}
