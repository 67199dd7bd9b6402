/** Owns the live connection: opens it again when it breaks, ever later, and then asks again for what was asked. */

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 10_000;
const LOGGED_OUT = 4401;
const REFUSED = 1008;
const SILENCE_MS = 6_000;

/**
 * Events: "message" (`detail` is JSON as sent), "preview" (`detail` is {head, jpeg}), "state" (`detail` is "live",
 * "connecting" or "lost").
 */
export class LiveSocket extends EventTarget {
  constructor() {
    super();
    /** @type {WebSocket | null} */
    this.socket = null;
    /** What the gateway is asked for, by kind; sent again after each reconnect. @type {Map<string, object>} */
    this.wanted = new Map();
    this.waitMs = FIRST_WAIT_MS;
    this.heardMs = 0;
    this.timer = 0;
    addEventListener("online", () => this.#now());
    setInterval(() => this.#watchSilence(), 1000);
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.heardMs = performance.now();
    this.#tell("state", "connecting");
    socket.addEventListener("open", () => {
      for (const message of this.wanted.values()) socket.send(JSON.stringify(message));
    });
    socket.addEventListener("message", (event) => this.#heard(socket, event.data));
    socket.addEventListener("close", (event) => this.#closed(socket, event.code));
  }

  /**
   * Ask for something that lasts; a later one of the same `kind` takes its place.
   *
   * @param {string} kind
   * @param {object} message
   */
  want(kind, message) {
    this.wanted.set(kind, message);
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /** @param {WebSocket} socket @param {string | ArrayBuffer} data */
  #heard(socket, data) {
    if (socket !== this.socket) return;
    this.heardMs = performance.now();
    this.waitMs = FIRST_WAIT_MS;
    this.#tell("state", "live");
    if (typeof data === "string") this.#tell("message", JSON.parse(data));
    else this.#tell("preview", unpack(data));
  }

  /** @param {WebSocket} socket @param {number} code */
  #closed(socket, code) {
    if (socket !== this.socket) return;
    this.socket = null;
    if (code === LOGGED_OUT) {
      location.assign("/");
      return;
    }
    this.#tell("state", "lost");
    const waitMs = code === REFUSED ? LONGEST_WAIT_MS : this.waitMs * (0.75 + Math.random() / 2);
    this.waitMs = Math.min(this.waitMs * 1.7, LONGEST_WAIT_MS);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), waitMs);
  }

  #now() {
    if (this.socket) return;
    clearTimeout(this.timer);
    this.open();
  }

  /** A connection that says nothing is dead, whatever the system believes of it. */
  #watchSilence() {
    const socket = this.socket;
    if (!socket || performance.now() - this.heardMs < SILENCE_MS) return;
    socket.close();
    this.#closed(socket, 1006);
  }

  /** @param {string} kind @param {unknown} detail */
  #tell(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }
}

/**
 * A picture as it is sent: 4 bytes big endian of the head's length, the head as JSON, a JPEG.
 *
 * @param {ArrayBuffer} data
 * @returns {{head: import("./types.js").Preview, jpeg: Blob}}
 */
function unpack(data) {
  const length = new DataView(data).getUint32(0);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  return { head, jpeg: new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" }) };
}
