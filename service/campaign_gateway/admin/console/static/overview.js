// The overview, and the account's window, which the budget shows too.

import { $, clock, fill, look, make, makeSvg, number, part, rows, span, spark, text } from "./draw.js";

const LANES = { interactive: "callers", proof: "validation", background: "background", writes: "writes" };
const STEPS = 180;

export function drawOverview(state) {
  const { figures, history } = state;
  const waited = figures.at_once === null ? "none in the last minute" : `a second · ${part(figures.at_once)} without waiting`;
  text($("reads"), number(figures.reads, 1));
  text($("reads-more"), waited);
  text($("signal"), span(figures.signal_bound));
  text($("signal-more"), figures.is_validating ? `any change in ${span(figures.blind_bound)}` : "by lifetimes: no poll validates now");
  text($("oldest"), span(figures.oldest));
  text($("oldest-more"), `hard bound ${span(figures.hard_bound)}`);
  text($("slowest"), span(figures.slowest));
  text($("slowest-more"), Object.entries(figures.answers).map(([name, count]) => `${name} ${number(count)}`).join(" · "));
  spark($("spark-reads"), history.reads, STEPS);
  spark($("spark-signal"), history.signal_bound, STEPS);
  spark($("spark-oldest"), history.oldest, STEPS);
  spark($("spark-slowest"), history.slowest, STEPS);
  drawAges(state);
  fill($("events"), state.events, () => make("li", {}, make("time"), make("p")), (row, event) => {
    look(row, event.level);
    text(row.children[0], clock(event.time));
    text(row.children[1], event.text);
    row.title = `${event.source}: ${event.text}`;
  });
  rows(
    $("calls"),
    state.calls,
    (call) => [
      clock(call.time), call.lane, call.client, `${call.operation} ${call.campaign}`.trim(), call.reason,
      call.status === null ? call.outcome : `${call.status} ${call.outcome}`, span(call.seconds),
    ],
    (call) => (["ok", "absent"].includes(call.outcome) ? "" : "bad"),
  );
}

// Each bar is a range of ages; the bounds stand where their age is.
function drawAges({ ages, figures }) {
  const svg = $("ages");
  const width = 480 / ages.counts.length;
  const most = Math.max(...ages.counts, 1);
  if (!svg.firstChild) {
    ages.counts.forEach((_, at) => {
      svg.append(makeSvg("rect", { x: at * width + 2, width: width - 4, rx: 2 }));
      const label = makeSvg("text", { x: (at + 1) * width, y: 166 });
      label.textContent = at % 2 || at === ages.bounds.length ? "" : span(ages.bounds[at]).replace(" ", "");
      svg.append(label);
    });
    ["signal", "hard"].forEach((name, at) => {
      svg.append(makeSvg("line", { id: `bound-${name}`, y1: 8, y2: 150 }));
      svg.append(makeSvg("text", { id: `label-${name}`, class: "bound", y: 16 + at * 14 }));
    });
  }
  svg.querySelectorAll("rect").forEach((bar, at) => {
    const height = ages.counts[at] ? Math.max(2, (ages.counts[at] / most) * 130) : 0;
    bar.setAttribute("y", 150 - height);
    bar.setAttribute("height", height);
  });
  for (const [name, age, said] of [["signal", figures.signal_bound, "seen within"], ["hard", figures.hard_bound, "hard bound"]]) {
    const x = placeOf(age, ages.bounds) * width;
    $(`bound-${name}`).setAttribute("x1", x);
    $(`bound-${name}`).setAttribute("x2", x);
    $(`label-${name}`).setAttribute("x", x - 4);
    text($(`label-${name}`), `${said} ${span(age)}`);
  }
}

function placeOf(age, bounds) {
  const at = bounds.findIndex((bound) => age <= bound);
  if (at < 0) return bounds.length + 0.5;
  const lower = at ? bounds[at - 1] : 0;
  return at + (age - lower) / (bounds[at] - lower);
}

// The account's window, in each card that is for it.

let picked = null;
let pauseEnds = 0;
let latest = null;

export function drawAccount(state) {
  latest = state.account;
  pauseEnds = performance.now() + latest.pause_left * 1000;
  for (const card of document.querySelectorAll(".account")) {
    if (!card.firstChild) layOut(card);
    drawCells(card, latest);
  }
  drawPause();
}

function layOut(card) {
  const cells = make("div", { className: "cells", tabIndex: 0, role: "group" });
  cells.setAttribute("aria-label", "Calls of the window, one cell each: arrow keys tell of them");
  const legend = Object.entries(LANES).map(([lane, name]) =>
    make("span", {}, make("i", { className: `dot ${lane}` }), name, " ", make("b"), make("small")));
  card.append(
    make("h2"), cells, make("p", { className: "picked-text" }), make("p", { className: "key" }, ...legend),
    make("p", { className: "state" }),
  );
  const pick = (at) => {
    picked = at;
    if (latest) drawCells(card, latest);
  };
  cells.addEventListener("mouseover", (event) => event.target !== cells && pick([...cells.children].indexOf(event.target)));
  cells.addEventListener("mouseleave", () => pick(null));
  cells.addEventListener("blur", () => pick(null));
  cells.addEventListener("keydown", (event) => {
    const columns = getComputedStyle(cells).gridTemplateColumns.split(" ").length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    pick(Math.min(cells.children.length - 1, Math.max(0, (picked ?? -step) + step)));
  });
}

function drawCells(card, account) {
  const [title, cells, told, legend] = card.children;
  text(title, `Account ${account.name} · ${span(account.window)}, call by call`);
  const isPaused = account.pause !== "open";
  look(cells, `cells${account.cells.length > 120 ? " many" : ""}${isPaused ? " paused" : ""}`);
  fill(cells, account.cells, () => make("i"), (cell, row, at) => {
    const isPicked = at === picked && cells.matches(":hover, :focus");
    look(cell, `${row.kind} ${row.lane ?? ""}${isPicked ? " picked" : ""}`);
    cell.style.setProperty("--left", Math.min(1, Math.max(0.08, (row.free_in ?? 0) / account.window)).toFixed(2));
  });
  const row = picked === null ? null : account.cells[picked];
  text(told, row ? tell(row) : `${number(account.remaining)} of ${number(account.calls)} left · next call falls free ${account.next_free === null ? "–" : `in ${span(account.next_free)}`}`);
  Object.keys(LANES).forEach((lane, at) => {
    const [, count, who] = legend.children[at].children;
    text(count, number(account.held[lane] ?? 0));
    const names = {};
    for (const cell of account.cells) if (cell.lane === lane) names[cell.client] = (names[cell.client] ?? 0) + 1;
    text(who, Object.entries(names).map(([name, calls]) => `${name} ${calls}`).join(", "));
  });
}

function tell(cell) {
  const said = {
    call: `${LANES[cell.lane]}: a call for ${cell.client}, falls free in ${span(cell.free_in)}`,
    free: "free",
    reserve: "free, kept for callers who wait",
    learned: "in the budget, but the platform was seen to allow less",
    withheld: "left to replicas that are not seen",
  };
  return said[cell.kind];
}

export function drawPause() {
  if (!latest) return;
  const left = Math.max(0, (pauseEnds - performance.now()) / 1000);
  const said = {
    paused: `Paused: the platform asked for it, ${Math.ceil(left)} s left`,
    over: "The pause is over: the next call finds out for all",
    probing: "One call finds out whether the pause is over",
    open: latest.cut_off
      ? "The shared ledger is lost: this replica keeps to its share"
      : `${latest.replicas === 1 ? "1 replica" : `${latest.replicas} replicas`}${latest.waiting ? ` · ${latest.waiting} callers wait here` : ""}${latest.learned < latest.calls ? ` · the platform allows ${latest.learned}` : ""}`,
  };
  for (const line of document.querySelectorAll(".account .state")) {
    look(line, `state ${latest.pause === "open" ? "" : "paused"}`);
    text(line, said[latest.pause]);
  }
}

