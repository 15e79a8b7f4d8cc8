// Budget with its what-if, freshness, clients, settings.

import { $, ago, fill, look, make, makeSvg, number, part, rows, span, text } from "./draw.js";

const STEPS = 180;

// Budget.

export async function drawBudget(state, ask) {
  rows($("accounts"), state.accounts, (row) => [
    row.name, row.streams.join(", "), number(row.calls), number(row.held), number(row.remaining), row.is_paused ? "paused" : "",
  ]);
  const form = $("what-if");
  const query = new URLSearchParams({ stream: state.stream });
  for (const field of form.elements) if (field.value !== "") query.set(field.name, field.value);
  const seen = await ask(`/console/forecast.json?${query}`, [400]);
  text($("what-if-wrong"), seen.detail ?? "");
  if (seen.detail) return;
  for (const field of form.elements) field.placeholder = number(seen.now[field.name], 2);
  const { now, what_if: then } = seen;
  const polls = (one) => Object.entries(one.poll_intervals).map(([channel, seconds]) => `${channel} ${span(seconds)}`).join(", ") || "none";
  const lines = [
    ["an edit is seen within", span(now.signal_bound), span(then.signal_bound)],
    ["any change is seen within", span(now.blind_bound), span(then.blind_bound)],
    ["polls every", polls(now), polls(then)],
    ["calls a minute, less the reserve", number(now.capacity, 1), number(then.capacity, 1)],
    ...Object.keys(now.calls_a_minute).map((name) => [
      `· ${name}`, number(now.calls_a_minute[name], 1), number(then.calls_a_minute[name], 1),
    ]),
    ["changes that can be read", number(now.readable, 1), number(then.readable, 1)],
  ];
  rows($("forecast"), lines, (line) => line);
}

// Freshness.

const FLAWS = {
  unsorted: "its rows are not in the order that was asked for",
  "no-page": "its answer holds no list",
  "short-page": "it grants no rows although there are more",
  "too-long": "it has more pages than may be asked for",
  shifting: "its rows move between two pages",
  disagrees: "answers by id say something else than their rows",
  "too-late": "it lags further behind than can be allowed for",
  starved: "its polls get no call, or come to no end",
};

export function drawFreshness(state) {
  const strips = Object.entries(state.history.lists);
  fill($("polls"), strips.length ? strips : [["–", []]], () => make("div", { className: "polls" }, make("b"), makeSvg("svg", {
    viewBox: `0 0 ${STEPS * 4} 26`, preserveAspectRatio: "none", role: "img",
  })), (line, [channel, marks]) => {
    text(line.children[0], channel);
    const before = STEPS - marks.length;
    const cells = Array.from({ length: STEPS }, (_, at) => (at < before ? "off" : marks[at - before]));
    const create = () => makeSvg("rect", { width: 3, height: 26, y: 0 });
    fill(line.children[1], cells, create, (cell, mark, at) => {
      look(cell, mark);
      cell.setAttribute("x", at * 4);
    });
  });
  rows($("lists"), state.lists, (row) => [
    row.channel,
    row.flaw ? `not trusted: ${FLAWS[row.flaw] ?? row.flaw}` : row.condition === "off" ? "no campaign in use" : row.condition,
    row.is_leading ? span(row.interval) : "by another replica",
    ago(row.polled_ago), span(row.good_for), number(row.total), ago(row.scanned_ago), span(row.lag),
  ], (row) => (row.flaw ? "bad" : row.condition === "late" ? "warn" : ""));
}

// Clients.

export function drawClients(state) {
  rows($("who"), state.clients, (row) => [
    row.name, number(row.requests), part(row.requests ? row.hits / row.requests : null), number(row.calls),
    part(row.requests ? row.not_modified / row.requests : null),
    row.keys.map((key) => `${key.name} ${key.last_used_ago === null ? "never" : ago(key.last_used_ago)}${key.expires_in === null ? "" : `, ends in ${span(key.expires_in)}`}`).join(" · ") || "–",
  ]);
}

// Settings.

export async function drawSettings(state, ask) {
  const { rows: values } = await ask("/console/settings.json");
  const wanted = $("only-changed").checked ? values.filter((row) => row.is_changed) : values;
  text($("generation"), `generation ${state.generation}`);
  rows($("values"), wanted, (row) => [
    `${row.is_changed ? "◆ " : ""}${row.key}`, typeof row.value === "string" ? row.value : JSON.stringify(row.value),
  ], (row) => (row.is_changed ? "" : "dim"));
}
