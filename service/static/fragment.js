/** What is shown lives in the URL's fragment, so that a view can be linked: #period=weekly&account=<uuid>. */

/** The periods, as they end a sentence. */
export const PERIODS = {
  daily: "today",
  weekly: "in the last 7 days",
  monthly: "in the last 30 days",
  all: "so far",
};
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** @returns {{period: string, account: string|null}} defaults where the fragment says nothing that is known */
export function readFragment() {
  const said = new URLSearchParams(location.hash.slice(1));
  const period = said.get("period");
  const account = (said.get("account") ?? "").toLowerCase();
  return { period: Object.hasOwn(PERIODS, period) ? period : "monthly", account: UUID.test(account) ? account : null };
}

/** Go to a view, with a step in the history; `fromList` remembers that a step back is the list. */
export function goTo({ period, account }, fromList = false) {
  const said = new URLSearchParams({ period, ...(account && { account }) });
  history.pushState({ fromList }, "", `#${said}`);
}
