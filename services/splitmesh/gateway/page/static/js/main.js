/** Owns the page: opens the session and the live connection, and shows the view that the address names. */

import { Api, ApiError } from "./api.js";
import { EdgeView } from "./edge-view.js";
import { FleetView } from "./fleet-view.js";
import { el, setText } from "./dom.js";
import { LiveSocket } from "./socket.js";

const STATES = { live: "live", connecting: "connecting", lost: "connection lost, trying again" };

/** @typedef {{element: Element, title: string, onMessage: (message: any) => void, onPreview: (preview: any) => void,
 *   onAddress: (rest: string[]) => void, close: () => void}} View */

class Page {
  /** @param {Api} api @param {LiveSocket} socket */
  constructor(api, socket) {
    this.api = api;
    this.socket = socket;
    this.content = /** @type {HTMLElement} */ (document.getElementById("content"));
    /** @type {View | null} */
    this.view = null;
    this.viewName = "";
    /** The newest fleet, so that a new view need not wait for the next. @type {import("./types.js").Fleet | null} */
    this.fleet = null;
    socket.addEventListener("message", (event) => this.#onMessage(/** @type {CustomEvent} */ (event).detail));
    socket.addEventListener("preview", (event) => this.view?.onPreview(/** @type {CustomEvent} */ (event).detail));
    socket.addEventListener("state", (event) => showState(/** @type {CustomEvent} */ (event).detail));
    addEventListener("hashchange", () => this.show());
  }

  /** Show what the address names: `#/` the fleet, `#/edge/NAME` an edge, `#/edge/NAME/frame/ID` a frame of it. */
  show() {
    const [kind, name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decode);
    const wanted = kind === "edge" && name ? `edge ${name}` : "fleet";
    if (this.viewName !== wanted) {
      const first = this.view === null;
      this.view?.close();
      this.viewName = wanted;
      this.view = wanted === "fleet" ? new FleetView(this.api, this.socket) : new EdgeView(this.api, this.socket, name);
      this.content.replaceChildren(this.view.element);
      document.title = `${this.view.title} · splitmesh`;
      if (this.fleet) this.view.onMessage(this.fleet);
      if (!first) this.content.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    this.view?.onAddress(rest);
  }

  /** @param {any} message */
  #onMessage(message) {
    if (message.type === "fleet") this.fleet = message;
    this.view?.onMessage(message);
  }
}

/** @param {string} part */
function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** @param {keyof typeof STATES} state */
function showState(state) {
  const shown = /** @type {HTMLElement} */ (document.getElementById("connection"));
  setText(shown, STATES[state]);
  shown.className = `connection ${state}`;
}

/** @param {Api} api */
function showSession(api) {
  const { tenant, actor, can_log_out } = api.session;
  setText(/** @type {HTMLElement} */ (document.getElementById("tenant")), actor === tenant ? tenant : `${tenant} · ${actor}`);
  const logOut = /** @type {HTMLButtonElement} */ (document.getElementById("logout"));
  logOut.hidden = !can_log_out;
  logOut.addEventListener("click", () => api.logOut());
}

try {
  const api = await Api.open();
  showSession(api);
  const socket = new LiveSocket();
  const page = new Page(api, socket);
  page.show();
  socket.open();
} catch (error) {
  const message = error instanceof ApiError ? error.message : "the page could not start";
  document.getElementById("content")?.replaceChildren(el("p", { class: "notice", role: "alert" }, message));
  if (!(error instanceof ApiError)) throw error;
}
