/** What is copied of a table: rows that a spreadsheet reads as they are. */

import { element } from "./elements.js";

/** Put the rows that are selected on the clipboard; a part of a single cell is left to the browser. */
export function copyRows(event) {
  const tables = [...document.querySelectorAll("table")].filter((table) => table.checkVisibility());
  const copied = tables.map((table) => rowsOf(table, getSelection())).filter((rows) => rows.length);
  if (event.target.closest?.("input") || !copied.length) return;
  event.preventDefault();
  // An empty line between two tables
  const lines = copied.flatMap((rows, index) => (index ? [[], ...rows] : rows));
  const html = element("table", {}, ...lines.map((texts) => element("tr", {}, ...texts.map((text) => element("td", {}, text)))));
  event.clipboardData.setData("text/html", html.outerHTML);
  event.clipboardData.setData("text/plain", lines.map((texts) => texts.map(quoted).join("\t")).join("\n"));
}

/** Return the texts of the rows that are selected, or of the cells that are if all of these are in one row. */
function rowsOf(table, selection) {
  const ranges = Array.from({ length: selection.rangeCount }, (_, index) => selection.getRangeAt(index));
  const selected = (node) => ranges.map((range) => common(range, node)).find((text) => text.trim());
  const rows = [...table.rows].filter((row) => row.dataset.id !== undefined || row.cells[0]?.tagName === "TH").filter(selected);
  if (rows.length !== 1) return rows.map((row) => [...row.cells].map(textOf));
  const cells = [...rows[0].cells].filter(selected);
  if (cells.length === 1 && selected(cells[0]).trim() !== cells[0].textContent.trim()) return [];
  return [cells.map(textOf)];
}

/** Return the text of a node in a range. */
function common(range, node) {
  if (!range.intersectsNode(node)) return "";
  const part = document.createRange();
  part.selectNodeContents(node);
  if (part.compareBoundaryPoints(Range.START_TO_START, range) < 0) part.setStart(range.startContainer, range.startOffset);
  if (part.compareBoundaryPoints(Range.END_TO_END, range) > 0) part.setEnd(range.endContainer, range.endOffset);
  return part.toString();
}

/**
 * Return the text of a cell for a spreadsheet: numbers without separators and with an ASCII minus, nothing for a missing
 * value, and an apostrophe before what it would run.
 */
function textOf(cell) {
  const copy = cell.cloneNode(true);
  for (const aside of copy.querySelectorAll(".unit, .unseen, [aria-hidden]")) aside.remove();
  const text = copy.textContent.replace(/\s+/g, " ").trim();
  if (cell.tagName === "TD" && cell.matches(".number, .rank, .share")) return text.replaceAll(",", "").replace("−", "-");
  return text.replace(/^[=+\-@＝＋－＠]/, "'$&");
}

/** A spreadsheet reads a text that begins with a quotation mark up to the next one. */
function quoted(text) {
  return text.startsWith('"') ? `"${text.replaceAll('"', '""')}"` : text;
}
