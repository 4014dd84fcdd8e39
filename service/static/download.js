/** The list that is shown as a CSV file, every row of it. */

import { askForFile } from "./api.js";
import { button, element } from "./elements.js";

/**
 * Ask for the file, as of the instant of the list, and hand it to the reader.
 * @param {import("./report.js").Report} report
 * @param {HTMLElement} place where a refusal is said
 */
export async function downloadCsv(report, place) {
  const { kind, query, pin, page } = report;
  try {
    const file = await askForFile(kind.resource, { ...query, as_of: pin });
    const name = [kind.resource, query.account_id, query.period, pin?.slice(0, 10)].filter(Boolean).join("-");
    save(file, `credits-${name}.csv`);
    place.replaceChildren();
    page.say(`Downloaded credits-${name}.csv`);
  } catch (error) {
    if (error.status === undefined) throw error;
    if (page.refused(error)) return;
    const words = element("p", {}, `There is no CSV file. ${error.message}`);
    const before = document.activeElement;
    const close = button("Close", () => {
      place.replaceChildren();
      before.focus();
    });
    place.replaceChildren(element("div", { class: "notice", role: "alert" }, words, close));
  }
}

function save(file, name) {
  const address = URL.createObjectURL(file);
  element("a", { href: address, download: name }).click();
  // Not at once: the browser reads it after the click has been handled.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
