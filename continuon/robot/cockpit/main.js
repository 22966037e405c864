// The page's memory and its clockwork: ask, show, and pass on what a person does.
import { Refusal, ask, token } from "./api.js";
import { watchCamera } from "./camera.js";
import { Drive } from "./drive.js";
import { $, confirmWith, showClients, showEpisodes, showHealth, showLearning, showLoop, showSoftware, tag, toast } from "./panels.js";

const ROLES = { nobody: 0, viewer: 1, operator: 2, owner: 3 };
const HOLD_MS = 1500;
const state = { role: 0, status: null, recording: null, rttMs: null, stopCamera: null, timers: [], shown: false };

const say = (error) => toast(error instanceof Refusal ? [error.message, error.hint].filter(Boolean).join(" · next: ") : "The robot does not answer.");
const may = (role) => state.role >= ROLES[role];

async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    say(error);
    return null;
  } finally {
    refreshStatus();
  }
}

// What the robot is doing

function showStatus(status) {
  state.status = status;
  const motion = status.motion;
  document.body.dataset.motion = motion;
  document.title = `${status.name} · ${modeWords(status.mode)}`;
  $("name").textContent = status.name;
  $("subtitle").textContent = `${status.rig} rig · continuon ${status.version}`;
  const words = { teleop: "driven by hand", policy: "driving itself" };
  $("mode").textContent = words[motion] ?? modeWords(status.mode);
  $("mode").dataset.level = status.mode === "E_STOP" ? "bad" : "";
  const latched = status.mode === "E_STOP";
  $("latch").hidden = !latched;
  $("latch-reason").textContent = latched
    ? `Reason: ${status.e_stop.reason || "none given"}. Look at the robot before you clear it.`
    : "";
  $("clear").disabled = !may("owner");
  for (const button of $("modes").children) {
    button.setAttribute("aria-pressed", String(button.dataset.mode === status.mode));
    button.disabled = latched || !may("operator");
  }
  const start = $("start");
  const does = status.executing ? "STOP" : "START";
  start.dataset.does = does;
  start.textContent = status.executing ? "Pause" : "Start";
  start.disabled = !may("operator") || !["MANUAL", "TRAINING", "AUTONOMOUS"].includes(status.mode);
  $("drive-state").textContent = driveWords(status);
  showRecording(status.recording ?? null);
  showTold(status);
  if (status.adapter && status.learner) showLearning(status.adapter, status.learner);
  showLoop(status.timing, motion === "teleop" ? state.rttMs : null);
  drive.connect(["MANUAL", "TRAINING"].includes(status.mode) && may("operator"));
  drive.follow(motion === "teleop" && may("operator"));
}

function modeWords(mode) {
  return mode === "E_STOP" ? "emergency stop" : mode.toLowerCase().replaceAll("_", " ");
}

function driveWords(status) {
  if (status.motion === "teleop") return "The robot follows you. Let go and it stops.";
  if (status.motion === "policy") return "The policy drives. Stop is always yours.";
  if (status.mode === "E_STOP") return "Nothing moves until the stop is cleared.";
  if (status.stopped_because) return `It stopped: ${status.stopped_because}.`;
  if (["MANUAL", "TRAINING"].includes(status.mode)) return "Ready: press Start to drive.";
  return "Choose Manual or Training, then Start.";
}

function showRecording(recording) {
  const before = state.recording;
  state.recording = recording;
  const card = $("record");
  card.toggleAttribute("data-recording", Boolean(recording));
  $("rec").hidden = !recording;
  const records = ["TRAINING", "AUTONOMOUS"].includes(state.status.mode) && state.status.executing;
  $("record-go").textContent = recording ? "Finish" : "Record";
  $("record-go").disabled = !may("operator") || (!recording && !records);
  $("record-stop").hidden = !recording;
  for (const id of ["task", "tags", "source"]) $(id).disabled = Boolean(recording);
  if (recording) {
    const seconds = Math.floor(recording.duration_s);
    $("rec-time").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    $("rec-task").textContent = recording.task;
    const drops = Object.values(recording.drops).reduce((sum, count) => sum + count, 0);
    tag("record-state", `${recording.frames} frames`, drops ? "warn" : "ok");
    $("record-note").textContent = drops ? `${drops} samples dropped` : "";
  } else {
    tag("record-state", records ? "ready" : "idle");
    $("record-note").textContent = records ? "" : "Recording needs Training or Autonomous, started.";
    if (before) setTimeout(refreshEpisodes, 900);
  }
}

// What the robot was told; an episode of a policy that is told something says just that.
function showTold(status) {
  const told = status.instruction ?? "";
  const needs = status.control?.needs_instruction ?? false;
  tag("told-state", told || (needs ? "none: the policy waits" : "none"), needs && !told ? "warn" : "");
  $("told-note").textContent = needs ? "The policy drives only while it is told what to do." : "The policy that runs here does not listen.";
  $("told-go").disabled = !may("operator");
  if (needs && status.motion === "policy" && told) {
    $("task").value = told;
    $("task").disabled = true;
  }
}

async function refreshStatus() {
  try {
    showStatus(await ask("/status"));
    online(true);
  } catch (error) {
    if (error instanceof Refusal && error.status === 401) return enter();
    online(false);
  }
}

function online(yes) {
  const link = $("link");
  link.textContent = yes ? "online" : "offline";
  link.dataset.level = yes ? "ok" : "bad";
  if (!yes) drive.connect(false);
}

async function quietly(work) {
  try {
    await work();
  } catch (error) {
    if (error instanceof Refusal && error.status !== 401 && error.status !== 503) say(error);
  }
}

const refreshHealth = () => quietly(async () => {
  const report = await ask("/health");
  showHealth(report);
  $("origin").hidden = report.origin === "real";
  $("origin").textContent = report.origin;
});
const refreshEpisodes = () => quietly(async () => showEpisodes(await ask("/episodes"), judge));
const refreshSoftware = () => quietly(async () => showSoftware(await ask("/ota"), may("owner")));
const judge = (id) => attempt(async () => {
  await ask(`/episodes/${encodeURIComponent(id)}/validate`, {});
  setTimeout(refreshEpisodes, 1200);
});

// What a person does

async function emergency(reason) {
  try {
    showStatus({ ...state.status, ...(await ask("/estop", { reason })), e_stop: { latched: true, reason } });
    toast("Stopped. Nothing moves until a person clears it.");
  } catch (error) {
    say(error);
  }
  refreshStatus();
}

const drive = new Drive({
  pad: $("pad"),
  stick: $("stick"),
  cap: () => Number($("cap").value) / 100,
  onCommand(command) {
    $("steer-dot").style.transform = `translateX(${command.steering * ($("steer-dot").parentElement.clientWidth / 2 - 7)}px)`;
    $("throttle-dot").style.transform = `translateY(${-command.throttle * 40}px)`;
    $("in-keys").classList.toggle("live", command.by === "keys");
    $("in-pad").classList.toggle("live", command.by === "gamepad");
  },
  onAnswer(answer, tookMs) {
    if (tookMs !== null) state.rttMs = state.rttMs === null ? tookMs : 0.9 * state.rttMs + 0.1 * tookMs;
    if (answer.code && answer.code !== "E-ROBOT-TELEOP-001") toast(answer.seen ? `${answer.what}: ${answer.seen}` : answer.what);
  },
  onGamepad(id) {
    $("gamepad").textContent = id ? id.split("(")[0].trim() : "none";
  },
});

$("estop").addEventListener("click", () => emergency("a person at the cockpit"));
addEventListener("emergency", () => state.status?.mode !== "E_STOP" && emergency("a gamepad's stop button"));
addEventListener("keydown", (event) => {
  if (event.code !== "Space" || event.repeat || event.target.closest("input, select, dialog, textarea")) return;
  event.preventDefault();
  emergency("the space bar at the cockpit");
});
$("modes").addEventListener("click", (event) => {
  const request = event.target.closest("button")?.dataset.request;
  if (request) attempt(() => ask("/mode", { request, reason: "cockpit" }));
});
$("start").addEventListener("click", (event) => {
  const request = event.currentTarget.dataset.does;
  event.currentTarget.blur();
  attempt(async () => {
    // Commands are on their way before the robot waits for the first one.
    if (request === "START" && state.status.mode !== "AUTONOMOUS") drive.follow(true);
    await ask("/mode", { request, reason: "cockpit" });
  });
});
let holding = null;
const letGo = () => {
  clearTimeout(holding);
  $("clear").classList.remove("held");
};
$("clear").addEventListener("pointerdown", () => {
  $("clear").classList.add("held");
  holding = setTimeout(() => {
    letGo();
    attempt(() => ask("/mode", { request: "CLEAR", reason: "cleared at the cockpit" }));
  }, HOLD_MS);
});
for (const name of ["pointerup", "pointerleave", "pointercancel"]) $("clear").addEventListener(name, letGo);

$("cap").addEventListener("input", () => {
  $("cap-out").textContent = `${$("cap").value} %`;
});
$("source").addEventListener("change", () => {
  drive.source = $("source").value;
});
$("record-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.recording) return finish("complete");
  const tags = $("tags").value.split(",").map((one) => one.trim()).filter(Boolean).slice(0, 16);
  const body = { task: $("task").value.trim(), tags, client: "cockpit" };
  if (state.status.motion === "teleop") body.source = drive.source;
  return attempt(() => ask("/episodes", body));
});
$("told-form").addEventListener("submit", (event) => {
  event.preventDefault();
  return attempt(async () => {
    const found = await ask("/instruction", { text: $("instruction").value });
    const lost = found.not_recorded ? ` Recording ended: ${found.not_recorded.what}.` : "";
    toast((found.instruction ? `Told: ${found.instruction}.` : "It is told nothing now.") + lost);
  });
});
const finish = (outcome) => attempt(async () => {
  await ask("/episodes/end", { outcome });
  toast(outcome === "complete" ? "Episode finished; it is being validated." : "Episode ended as stopped.");
});
$("record-stop").addEventListener("click", () => finish("stopped"));
$("rollback").addEventListener("click", async () => {
  const reason = await confirmWith("Roll back?", "The robot returns to the bundle before, on disk and in the running loop. What failed is kept.", "Roll back");
  if (reason) await attempt(() => ask("/ota/rollback", { reason })).then((done) => done && toast("Rolled back."));
  refreshSoftware();
});
$("invite").addEventListener("click", () => attempt(async () => {
  const found = await ask("/pairing", { role: $("invite-role").value });
  $("invite-code").textContent = found.code;
  $("invite-code").hidden = false;
  setTimeout(() => {
    $("invite-code").hidden = true;
  }, found.for_s * 1000);
}));
$("pair-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("pair-error").textContent = "";
  try {
    const found = await ask("/pair", { code: $("code").value, name: $("device").value });
    token.set(found.token);
    enter();
  } catch (error) {
    $("pair-error").textContent = error.message;
  }
});
const turnAway = async (one) => {
  const reason = await confirmWith(`Turn ${one.name} away?`, "It sees and drives no further, from now on. With the last one the robot leaves the network.", "Turn away", false);
  if (!reason) return;
  await attempt(() => ask("/clients/revoke", { client: one.client }));
  enter();
};
$("theme").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  setTheme(now === "dark" ? "light" : "dark");
});
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("continuon.theme", theme);
}

// Coming in

function every(ms, work) {
  work();
  state.timers.push(setInterval(() => !document.hidden && work(), ms));
}

function stopAll() {
  state.timers.forEach(clearInterval);
  state.timers = [];
  state.stopCamera?.();
  state.stopCamera = null;
  drive.follow(false);
  drive.connect(false);
}

async function enter() {
  stopAll();
  let who;
  try {
    who = await ask("/whoami");
  } catch {
    online(false);
    setTimeout(enter, 1500);
    return;
  }
  if (who.role === "nobody" && token.get()) {
    // An old token is worse than none: before pairing it hides that we are at home.
    token.drop();
    who = await ask("/whoami");
  }
  state.role = ROLES[who.role];
  const inside = state.role > 0;
  $("gate").hidden = inside;
  $("cockpit").hidden = !inside;
  $("estop").hidden = !inside;
  $("chips").hidden = !inside;
  if (!inside) {
    $("subtitle").textContent = "not paired";
    return;
  }
  tag("who", `${who.name} · ${who.role}`);
  $("invite-row").hidden = !may("owner");
  $("pair-note").textContent = may("owner")
    ? "A code lets one more phone, tablet or computer in."
    : "An owner may let more devices in.";
  every(500, refreshStatus);
  every(5000, refreshHealth);
  every(3000, refreshEpisodes);
  every(10000, refreshSoftware);
  $("clients").replaceChildren();
  if (may("owner")) every(5000, () => quietly(async () => showClients(await ask("/clients"), who.name, turnAway)));
  state.stopCamera = watchCamera($("camera"), (figures) => {
    $("veil").hidden = figures.seen;
    $("veil").textContent = "no picture";
    $("fps").textContent = figures.seen ? `${figures.fps === null ? "–" : figures.fps.toFixed(0)} fps · ${figures.ageMs.toFixed(0)} ms` : "– fps";
  });
}

if (localStorage.getItem("continuon.theme")) setTheme(localStorage.getItem("continuon.theme"));
enter();
