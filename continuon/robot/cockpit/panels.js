// The cards: what the robot says, as text. Everything goes through textContent.
export const $ = (id) => document.getElementById(id);

export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const LEVELS = { OK: "ok", WARN: "warn", UNKNOWN: "warn", STALE: "bad", CRITICAL: "bad" };

export function tag(id, text, level = "") {
  const node = $(id);
  node.textContent = text;
  node.dataset.level = level;
}

const ms = (value) => (value === null || value === undefined ? null : `${value < 10 ? value.toFixed(2) : value.toFixed(0)}`);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

export function showLoop(timing, rttMs) {
  tag("loop-rate", timing.rate_hz === null ? "" : `${timing.rate_hz.toFixed(1)} Hz`);
  const missed = timing.ticks ? String(timing.missed_periods) : null;
  const figures = [
    ["p50 ms", ms(timing.lateness_ms.p50)],
    ["p99 ms", ms(timing.lateness_ms.p99)],
    ["worst ms", ms(timing.lateness_ms.max)],
    ["missed", missed],
    ["policy ms", ms(timing.policy_ms.p99)],
    ["link ms", rttMs === null ? null : ms(rttMs)],
  ].filter(([, value]) => value !== null);
  $("loop-figures").replaceChildren(
    ...figures.map(([name, value]) => h("div", {}, h("b", {}, value), h("span", {}, name))),
  );
  const counts = timing.histogram_counts;
  const edges = timing.histogram_edges_ms;
  const most = Math.max(1, ...counts);
  // Square roots keep one late tick in thousands visible.
  const height = (count) => (count ? Math.max(3, 78 * Math.sqrt(count / most)) : 0);
  $("histogram").replaceChildren(
    ...counts.map((count, index) => {
      const bar = h("i");
      bar.style.height = `${height(count)}px`;
      const late = edges[index] >= timing.period_ms ? "" : null;
      return h("div", { title: `${count} ticks from ${edges[index]} to ${edges[index + 1]} ms`, "data-late": late }, bar, `${edges[index]}`);
    }),
  );
}

// The charge beside the mode; a battery that is not known says so, and is not green.
function showBattery(check) {
  const node = $("battery");
  node.hidden = !check;
  if (!check) return;
  const { battery_fraction: charge, battery_v: volts } = check.figures;
  const known = charge === undefined ? (volts === undefined ? "unknown" : `${volts.toFixed(1)} V`) : `${Math.round(100 * charge)} %`;
  node.replaceChildren(h("span", { class: "word" }, "battery "), known);
  node.dataset.level = LEVELS[check.level];
  node.title = check.text;
}

export function showHealth(report) {
  showBattery(report.checks.find((check) => check.name === "battery"));
  tag("health-verdict", report.verdict, LEVELS[report.verdict]);
  $("checks").replaceChildren(
    ...report.checks.map((check) =>
      h("li", { "data-level": check.level, title: check.hint ?? "" }, h("b", {}, check.name), h("span", {}, check.text)),
    ),
  );
}

const slot = (facts) => (facts ? `${facts.model_name} ${facts.version} (release ${facts.release_counter})` : null);

export function showSoftware(status, mayRollBack) {
  if (!status.configured) {
    tag("software-state", "no bundle yet");
    $("software-facts").replaceChildren();
    $("rollback").hidden = true;
    return;
  }
  tag("software-state", status.on_trial ? `on trial, ${status.tries_left} starts left` : status.active ? "committed" : "empty", status.on_trial ? "warn" : "ok");
  const failed = status.failed?.at(-1);
  const facts = [
    ["Runs", slot(status.active)],
    ["Good", slot(status.good)],
    ["Before", slot(status.previous)],
    ["Staged", slot(status.staged)],
    ["Failed", failed ? `${failed.bundle.slice(0, 12)}: ${failed.reason}` : null],
    ["Next", status.next_step],
  ].filter(([, value]) => value);
  $("software-facts").replaceChildren(...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  $("rollback").hidden = !(mayRollBack && (status.on_trial || status.previous));
}

const TRIALS = { passed: ["in use", "ok"], due: ["trial due", "warn"], begun: ["on trial", "warn"], set_aside: ["set aside", "warn"], unknown: ["unknown", "bad"], none: ["none", ""] };
const when = (ns) => (ns ? new Date(ns / 1e6).toLocaleString() : null);
const short = (text) => (text ? text.slice(0, 12) : null);

function promise(gate) {
  const figures = gate?.figures;
  if (!figures) return null;
  return `held-out error ${figures.mae_before.toFixed(4)} to ${figures.mae_after.toFixed(4)}, actions moved ${figures.action_delta.toFixed(3)}, ${figures.violations} violations (${gate.origin})`;
}

export function showLearning(adapter, learner) {
  const [word, level] = TRIALS[adapter.state] ?? [adapter.state, "warn"];
  tag("adapter-state", word, level);
  const last = learner.last;
  const trial = adapter.last_trial;
  const facts = [
    ["Adapter", adapter.adapter ? `${adapter.adapter} (${short(adapter.sha256)})` : adapter.set_aside ? `${adapter.set_aside}, of another base` : "none"],
    ["Base", short(adapter.base_sha256)],
    ["Since", when(adapter.since_wall_ns)],
    ["Gate", promise(adapter.gate)],
    ["Trial", adapter.trial ? `${adapter.trial.ticks} of ${adapter.trial.soak_ticks} ticks` : trial ? [trial.verdict, ...(trial.misses ?? [])].join(": ") : null],
    ["Why", adapter.adapter ? null : adapter.why],
    ["Learner", learner.waits_for ? `waits for: ${learner.waits_for}` : learner.state],
    ["Last run", last ? `${last.outcome.replace("_", " ")}, ${when(last.ended_wall_ns || last.began_wall_ns)}` : null],
    ["Said", last?.reasons?.length ? last.reasons.join("; ") : null],
  ].filter(([, value]) => value);
  $("adapter-facts").replaceChildren(...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

export function showClients(found, me, revoke) {
  $("clients").replaceChildren(
    ...found.clients.map((one) =>
      h("li", {}, h("b", {}, one.name), h("span", { class: "tag" }, one.role), h("button", { class: "ghost", type: "button", "aria-label": `Turn ${one.name} away`, onclick: () => revoke(one) }, one.name === me ? "Leave" : "Turn away")),
    ),
  );
}

function verdict(episode) {
  if (episode.torn) return ["torn", "bad"];
  if (!episode.verdict) return ["not judged", ""];
  return episode.verdict.ok ? ["valid", "ok"] : ["invalid", "bad"];
}

export function showEpisodes(found, judge) {
  const shelf = [...found.episodes].reverse();
  tag("episode-count", shelf.length ? String(shelf.length) : "");
  if (!shelf.length) {
    $("episode-list").replaceChildren(h("li", { class: "empty" }, "Nothing is recorded yet."));
    return;
  }
  $("episode-list").replaceChildren(
    ...shelf.slice(0, 40).map((episode) => {
      const [word, level] = verdict(episode);
      const figures = episode.verdict?.figures ?? {};
      const drops = Object.values(figures.drops ?? {}).reduce((sum, count) => sum + count, 0);
      const words = [
        episode.episode_id,
        figures.duration_s ? `${figures.duration_s.toFixed(1)} s` : null,
        figures.steps ? `${figures.steps} steps` : null,
        megabytes(episode.bytes),
        episode.end_reason,
        drops ? `${drops} dropped` : null,
        ...(episode.tags ?? []).map((one) => `#${one}`),
      ].filter(Boolean);
      const badge = episode.verdict || episode.torn
        ? h("span", { class: "tag", "data-level": level }, word)
        : h("button", { class: "ghost", type: "button", onclick: () => judge(episode.episode_id) }, "Validate");
      const why = episode.torn ?? episode.verdict?.errors?.[0]?.text;
      return h("li", {}, h("b", {}, episode.task || "untitled"), badge, h("small", {}, words.join(" · ")), why ? h("small", { class: "why" }, why) : null);
    }),
  );
}

export function toast(text, ms = 4200) {
  const node = $("toast");
  node.textContent = text;
  node.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => {
    node.hidden = true;
  }, ms);
}

export function confirmWith(title, text, yes, why = true) {
  const dialog = $("confirm");
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = yes;
  $("confirm-reason").value = "";
  $("confirm-label").hidden = !why;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes" ? $("confirm-reason").value.trim() || "no reason given" : null), { once: true });
  });
}
