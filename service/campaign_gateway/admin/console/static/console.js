// Asks for the state every two seconds while somebody looks, and has the screen in view drawn.

import { drawCampaigns, listenCampaigns } from "./campaigns.js";
import { $, clock, fill, look, make, text } from "./draw.js";
import { drawAccount, drawOverview, drawPause } from "./overview.js";
import { drawBudget, drawClients, drawFreshness, drawSettings } from "./screens.js";

const REFRESH_MILLISECONDS = 2000;
const SCREENS = {
  overview: (state) => { drawAccount(state); drawOverview(state); },
  campaigns: drawCampaigns,
  budget: (state, ask) => { drawAccount(state); return drawBudget(state, ask); },
  freshness: drawFreshness,
  clients: drawClients,
  settings: drawSettings,
};

let state = null;
let stream = null;
let timer = 0;
let turn = 0;

const screen = () => (Object.hasOwn(SCREENS, location.hash.slice(1)) ? location.hash.slice(1) : "overview");

async function ask(path, alsoGood = []) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(10_000) });
  if (!answer.ok && !alsoGood.includes(answer.status)) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function refresh() {
  clearTimeout(timer);
  const mine = ++turn;
  try {
    const told = await ask(`/console/state.json${stream === null ? "" : `?stream=${encodeURIComponent(stream)}`}`);
    if (mine !== turn) return;
    state = told;
    drawStrip();
    drawStreams();
    await SCREENS[screen()](state, ask);
    document.body.dataset.refresh = "on";
  } catch {
    // A gateway that restarts is back in a moment; what was seen last stays, and the strip says so.
    if (mine === turn) drawLost();
  }
  if (mine !== turn) return;
  document.body.dataset.turn = String(turn);
  if (document.visibilityState === "visible") timer = setTimeout(refresh, REFRESH_MILLISECONDS);
}

const RANK = { down: 0, degraded: 1, ok: 2 };

function drawStrip() {
  const worker = state.worker === null ? [] : [{ status: "ok", text: `worker ${state.worker} of ${state.workers}`, reason: "figures, events and calls are this worker's" }];
  const chips = [...state.strip, ...worker].sort((one, other) => RANK[one.status] - RANK[other.status]);
  fill($("strip"), chips, () => make("li", {}, make("span"), make("small")), (chip, row) => {
    look(chip, `chip ${row.status}`);
    const since = row.since ? ` since ${clock(Date.parse(row.since) / 1000)}` : "";
    text(chip.children[0], row.text);
    text(chip.children[1], row.status === "ok" ? "" : ` ${row.reason ?? row.status}${since}`);
    chip.title = `${row.text}: ${row.status}${row.reason ? `, ${row.reason}` : ""}${since}`;
  });
}

function drawLost() {
  document.body.dataset.refresh = "lost";
  const seen = state === null ? "" : ` What is shown is of ${clock(state.now)}.`;
  fill($("strip"), [0], () => make("li", {}, make("span"), make("small")), (chip) => {
    look(chip, "chip down");
    text(chip.children[0], "no answer");
    text(chip.children[1], ` The gateway does not answer; asked again every two seconds.${seen}`);
  });
}

function drawStreams() {
  const pick = $("stream");
  if (pick.options.length === state.streams.length) return;
  pick.replaceChildren(...state.streams.map((alias) => make("option", { value: alias, textContent: alias })));
  pick.value = state.stream;
  pick.parentElement.hidden = state.streams.length < 2;
}

function show() {
  const shown = screen();
  for (const section of document.querySelectorAll(".screen")) section.hidden = section.id !== shown;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${shown}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  refresh();
}

$("stream").addEventListener("change", () => {
  stream = $("stream").value;
  // The open one is the other stream's.
  $("close").click();
  refresh();
});
$("only-changed").addEventListener("change", refresh);
$("what-if").addEventListener("input", refresh);
$("what-if").addEventListener("submit", (event) => event.preventDefault());
listenCampaigns(() => state, ask, refresh);
addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (document.visibilityState === "visible") refresh();
  else document.body.dataset.refresh = "stopped";
});
setInterval(drawPause, 1000);
show();
