// The robot's API as functions. A token, once paired, stays in this browser.
const KEY = "continuon.token";

export const token = {
  get: () => localStorage.getItem(KEY),
  set: (value) => localStorage.setItem(KEY, value),
  drop: () => localStorage.removeItem(KEY),
};

export class Refusal extends Error {
  constructor(status, body) {
    super(body.what || `the robot answered ${status}`);
    this.status = status;
    this.code = body.code || "";
    this.hint = body.hint || "";
  }
}

function headers(more = {}) {
  const secret = token.get();
  return secret ? { ...more, authorization: `Bearer ${secret}` } : more;
}

export async function ask(path, body, options = {}) {
  const init = { headers: headers(), ...options };
  if (body !== undefined) {
    init.method = "POST";
    init.body = JSON.stringify(body);
    init.headers = headers({ "content-type": "application/json" });
  }
  const answer = await fetch(path, init);
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok && !(path === "/readyz" && answer.status === 503)) {
    throw new Refusal(answer.status, found);
  }
  return found;
}

export function fetchFrame(after, signal) {
  return fetch(`/camera.jpg?after=${after}`, { headers: headers(), signal });
}

// A page cannot set headers on a WebSocket: the token travels as an offered protocol.
export function openTeleop() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const offered = ["continuon.v1"];
  if (token.get()) offered.push(`bearer.${token.get()}`);
  return new WebSocket(`${scheme}://${location.host}/teleop`, offered);
}
