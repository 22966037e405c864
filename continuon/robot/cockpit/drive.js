// Keyboard, gamepad and touch become one command, sent 30 times a second while the
// robot is driven by hand. Nothing is sent from a hidden page: silence stops the robot.
import { openTeleop } from "./api.js";

const PERIOD_MS = 33;
const DEADZONE = 0.08;
const KEYS = {
  ArrowUp: ["throttle", 1], KeyW: ["throttle", 1],
  ArrowDown: ["throttle", -1], KeyS: ["throttle", -1],
  ArrowRight: ["steering", 1], KeyD: ["steering", 1],
  ArrowLeft: ["steering", -1], KeyA: ["steering", -1],
};
const RISE_PER_S = 4;

const clamp = (value) => Math.max(-1, Math.min(1, value));

export class Drive {
  constructor({ pad, stick, cap, onCommand, onAnswer, onGamepad }) {
    this.cap = cap;
    this.onCommand = onCommand;
    this.onAnswer = onAnswer;
    this.onGamepad = onGamepad;
    this.source = "human_teleop_xr";
    this.held = new Set();
    this.keys = { steering: 0, throttle: 0 };
    this.touch = null;
    this.socket = null;
    this.active = false;
    this.wanted = false;
    this.waiting = [];
    this.#listen(pad, stick);
    setInterval(() => this.#turn(), PERIOD_MS);
  }

  // Hold a socket open while the robot may be driven by hand, so that a start need not
  // wait for it.
  connect(wanted) {
    this.wanted = wanted;
    if (wanted && !this.socket) this.#open();
    if (!wanted) this.#close();
  }

  // Commands go out only while this is on.
  follow(active) {
    this.active = active;
    if (active) this.connect(true);
  }

  release() {
    this.held.clear();
    this.touch = null;
    this.keys = { steering: 0, throttle: 0 };
  }

  #open() {
    const socket = openTeleop();
    this.socket = socket;
    socket.onmessage = (message) => {
      const began = this.waiting.shift();
      const answer = JSON.parse(message.data);
      this.onAnswer(answer, began === undefined ? null : performance.now() - began);
    };
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.waiting = [];
      setTimeout(() => this.wanted && !this.socket && this.#open(), 500);
    };
  }

  #close() {
    const socket = this.socket;
    this.socket = null;
    this.waiting = [];
    if (socket) socket.close();
  }

  #listen(pad, stick) {
    const typing = (event) => event.target.closest("input, select, textarea, dialog");
    addEventListener("keydown", (event) => {
      if (!(event.code in KEYS) || typing(event) || event.ctrlKey || event.metaKey) return;
      this.held.add(event.code);
      event.preventDefault();
    });
    addEventListener("keyup", (event) => this.held.delete(event.code));
    addEventListener("blur", () => this.release());
    document.addEventListener("visibilitychange", () => this.release());
    const move = (event) => {
      const box = pad.getBoundingClientRect();
      const reach = box.width / 2 - stick.offsetWidth / 2;
      let x = (event.clientX - box.left - box.width / 2) / reach;
      let y = (event.clientY - box.top - box.height / 2) / reach;
      const far = Math.hypot(x, y);
      if (far > 1) { x /= far; y /= far; }
      this.touch = { steering: x, throttle: -y };
      stick.style.transform = `translate(${x * reach}px, ${y * reach}px)`;
    };
    const drop = () => {
      this.touch = null;
      stick.style.transform = "";
    };
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      move(event);
    });
    pad.addEventListener("pointermove", (event) => this.touch && move(event));
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      pad.addEventListener(name, drop);
    }
  }

  #gamepad() {
    const pad = [...(navigator.getGamepads?.() ?? [])].find((one) => one?.connected);
    this.onGamepad(pad ? pad.id : null);
    if (!pad) return null;
    const value = (index) => pad.buttons[index]?.value ?? 0;
    if (pad.buttons[1]?.pressed) dispatchEvent(new Event("emergency"));
    const steering = pad.axes[0] ?? 0;
    const throttle = value(7) - value(6);
    const rests = Math.abs(steering) < DEADZONE && Math.abs(throttle) < DEADZONE;
    return rests ? null : { steering, throttle };
  }

  // A key is all or nothing: the command rises towards it, and falls to 0 at once.
  #keyboard() {
    const wanted = { steering: 0, throttle: 0 };
    for (const code of this.held) wanted[KEYS[code][0]] += KEYS[code][1];
    const step = (RISE_PER_S * PERIOD_MS) / 1000;
    for (const axis of ["steering", "throttle"]) {
      const to = clamp(wanted[axis]);
      const now = this.keys[axis];
      const same = Math.sign(to) === Math.sign(now) || now === 0;
      this.keys[axis] = to === 0 ? 0 : same ? now + Math.max(-step, Math.min(step, to - now)) : 0;
    }
    return this.keys;
  }

  #turn() {
    const keys = this.#keyboard();
    const pad = this.#gamepad();
    const from = this.touch ?? pad ?? keys;
    const command = {
      steering: clamp(from.steering),
      throttle: clamp(from.throttle) * this.cap(),
      by: this.touch ? "touch" : pad ? "gamepad" : this.held.size ? "keys" : null,
    };
    this.onCommand(command);
    const open = this.socket?.readyState === WebSocket.OPEN;
    // What was not answered for half a second is not made worse by sending more.
    if (!open || !this.active || document.hidden || this.waiting.length > 15) return;
    this.waiting.push(performance.now());
    const action = [command.steering, command.throttle];
    this.socket.send(JSON.stringify({ action, source: this.source }));
  }
}
