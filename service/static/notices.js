/** What the page says beside its lists: errors, each with a button, and texts for a screen reader. */

import { at, button, element } from "./elements.js";

/** Have a screen reader read a text. */
export function announce(text) {
  at("status").textContent = text;
}

/** An error in a place of its own. */
export class Notice {
  /** The error that is shown. */
  #error = null;

  /**
   * @param {Element} place what else is in it is replaced
   * @param {string} label of the button
   * @param {() => unknown} action of the button
   */
  constructor(place, label, action) {
    this.place = place;
    this.make = () => button(label, action);
  }

  /** Show an error, or remove the one that is shown. */
  draw(error) {
    if (error === this.#error) return;
    this.#error = error;
    const notice = this.place.querySelector(".notice");
    if (error) {
      const words = element("p", {}, error.message);
      // Keep the button, which may have the focus; a screen reader reads the new paragraph.
      if (notice) return notice.firstChild.replaceWith(words);
      this.place.replaceChildren(element("div", { class: "notice", role: "alert" }, words, this.make()));
    } else if (notice) {
      // Keep the focus near.
      if (notice.contains(document.activeElement)) this.place.closest("section")?.querySelector("h1").focus();
      notice.remove();
    }
  }
}
