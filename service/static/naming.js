/** What an account is called on the screen, and what it is called while names are hidden. */

const STORED_AS = "credits-hide-names";

/** Whether names and addresses are masked, in this tab. */
export const hiding = {
  get: () => sessionStorage.getItem(STORED_AS) === "true",
  set: (hide) => sessionStorage.setItem(STORED_AS, hide),
};

/**
 * Return the words for an account.
 * @param {string} id
 * @param {{account_name: string|null, account_email: string|null}|undefined} account undefined while it is not known
 * @returns {{name: string, address: string|null, plain: boolean}} plain: the name is not the account's own
 */
export function naming(id, account) {
  // The same for an account in every period, so that people on a call can speak of it.
  const stand_in = `Account ${id.slice(0, 8)}`;
  if (hiding.get()) return { name: stand_in, address: null, plain: true };
  const name = account?.account_name?.trim();
  return { name: name || stand_in, address: account?.account_email ?? null, plain: !name };
}
