/** Owns the one thing that the login page says: that the last token was not known. */

const wrong = /** @type {HTMLElement} */ (document.getElementById("wrong"));
wrong.hidden = location.search !== "?wrong";
