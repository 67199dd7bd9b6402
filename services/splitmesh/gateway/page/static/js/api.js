/** Owns requests to the gateway: JSON in and out, with the session's own token where something is changed. */

/** The gateway, or the edge behind it, said no; `message` is for people. */
export class ApiError extends Error {
  /** @param {number} status of HTTP; 0: the gateway did not answer @param {string} message @param {string} kind */
  constructor(status, message, kind) {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}

export class Api {
  /** @param {import("./types.js").Session} session */
  constructor(session) {
    this.session = session;
  }

  /** Who is logged in; leaves for the login page when nobody is. @returns {Promise<Api>} */
  static async open() {
    return new Api(await ask("/api/session", { method: "GET" }));
  }

  /** @param {string} path @returns {Promise<any>} */
  get(path) {
    return ask(path, { method: "GET" });
  }

  /** @param {string} path @param {object} body @param {AbortSignal} [signal] @returns {Promise<any>} */
  post(path, body, signal) {
    const headers = { "content-type": "application/json", "x-csrf-token": this.session.csrf };
    return ask(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  }

  async logOut() {
    await fetch("/logout", { method: "POST", headers: { "x-csrf-token": this.session.csrf } });
    location.assign("/login");
  }
}

/** @param {string} path @param {RequestInit} init @returns {Promise<any>} */
async function ask(path, init) {
  let reply;
  try {
    reply = await fetch(path, { ...init, credentials: "same-origin" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "the gateway does not answer", "network");
  }
  const body = await reply.json().catch(() => ({}));
  if (reply.ok) return body;
  if (reply.status === 401) location.assign("/");
  throw new ApiError(reply.status, body.error ?? `refused (${reply.status})`, body.kind ?? "");
}
