// Campaigns: a page of them at a time, searched where they are; one explained; a purge.

import { $, ago, fill, look, make, number, rows, span, text } from "./draw.js";

const PAGE = 50;
const shown = { question: "", first: 0, total: 0, id: null, name: "" };

export async function drawCampaigns(state, ask) {
  const query = new URLSearchParams({ stream: state.stream, q: shown.question, first: shown.first, count: PAGE });
  const found = await ask(`/console/campaigns.json?${query}`);
  shown.total = found.total;
  if (shown.first >= found.total && shown.first > 0) shown.first = 0;
  const last = Math.min(found.total, shown.first + PAGE);
  text($("found"), found.total ? `${number(shown.first + 1)} to ${number(last)} of ${number(found.total)}` : "none");
  $("back").disabled = shown.first === 0;
  $("next").disabled = last >= found.total;
  rows($("rows"), found.rows, (row) => cells(row, ask, state), kind);
  if (shown.id !== null) await drawOne(state, ask);
}

function cells(row, ask, state) {
  const { known } = row;
  const name = row.name ?? (known.is_absent ? "(no such campaign)" : "(name not known here)");
  const pick = make("button", { type: "button", textContent: name, title: name });
  pick.dataset.id = row.id;
  pick.addEventListener("click", () => open(row.id, name, state, ask));
  return [
    keep(row.id, make("div", {}, pick, make("small", { textContent: row.id, title: row.id }))),
    row.status ?? "–",
    number(row.reads, 1),
    span(known.age),
    known.proof ?? "–",
    known.why ?? "–",
    span(known.ttl),
    known.next,
  ];
}

// The same button as before, so that it keeps the focus.
const kept = new Map();
function keep(id, fresh) {
  const before = kept.get(id);
  if (before && before.firstChild.textContent === fresh.firstChild.textContent) return before;
  if (kept.size > 4 * PAGE) kept.clear();
  kept.set(id, fresh);
  return fresh;
}

function kind({ known, id }) {
  const state = known.is_absent || !known.is_stored ? "dim" : known.ttl < 0 ? "warn" : "";
  return `${state}${id === shown.id ? " picked" : ""}`;
}

async function open(id, name, state, ask) {
  Object.assign(shown, { id, name });
  text($("purged"), "");
  await drawOne(state, ask);
  $("purge").focus();
}

async function drawOne(state, ask) {
  const known = await ask(`/explain/${encodeURIComponent(state.stream)}/${encodeURIComponent(shown.id)}`);
  const moments = [
    ["edited", known.edited_ago, "by its own date"],
    ["list saw it", known.listed?.seen_ago ?? null, known.listed ? `${known.listed.channel} list` : "not listed"],
    ["read", known.read_ago, "by id"],
    ["validated", known.age, known.proof === "sweep" ? "by a poll of the list" : (known.proof ?? "")],
  ].sort((one, other) => (other[1] ?? Infinity) - (one[1] ?? Infinity));
  const ahead = [
    ["fresh until", known.ttl, known.why ?? ""],
    ["hard bound", known.read_ago === null ? null : known.stale_at_most - known.read_ago, "never served after it"],
  ];
  const past = moments.filter(([, at]) => at !== null);
  const line = [
    ...moments.filter(([, at]) => at === null).map(([what, , more]) => ["never", what, "–", more]),
    ...past.map(([what, at, more]) => ["", what, ago(at), more]),
    ...ahead.filter(([, at]) => at !== null && at <= 0).map(([what, at, more]) => ["", what, ago(-at), more]),
    ["now", "now", known.is_stored ? "" : "nothing stored", ""],
    ...ahead.filter(([, at]) => at !== null && at > 0).map(([what, at, more]) => ["ahead", what, `in ${span(at)}`, more]),
  ];
  fill($("line"), line, () => make("li", {}, make("b"), make("span"), make("p")), (item, [when, what, at, more]) => {
    look(item, when);
    [what, at, more].forEach((said, number) => text(item.children[number], said));
  });
  text($("one-name"), `${shown.name} · ${shown.id}`);
  text($("one-next"), `A read now would: ${known.next}.`);
  $("one").hidden = false;
}

export function listenCampaigns(current, ask, refresh) {
  const turn = (first) => {
    shown.first = Math.max(0, first);
    refresh();
  };
  let pending = 0;
  $("question").addEventListener("input", () => {
    clearTimeout(pending);
    pending = setTimeout(() => {
      shown.question = $("question").value;
      turn(0);
    }, 150);
  });
  $("back").addEventListener("click", () => turn(shown.first - PAGE));
  $("next").addEventListener("click", () => turn(shown.first + PAGE));
  $("close").addEventListener("click", () => {
    shown.id = null;
    $("one").hidden = true;
  });
  $("purge").addEventListener("click", () => {
    const state = current();
    text($("confirm-what"), `Purge ${shown.name}?`);
    text(
      $("confirm-cost"),
      `It is stale for all callers until it has been read again: one call of the background lane, if it is stored (${number(state.account.remaining)} calls are left). Callers get what is stored meanwhile.`,
    );
    $("confirm-key").hidden = !state.purge_needs_key;
    $("confirm").showModal();
  });
  $("confirm-no").addEventListener("click", () => $("confirm").close());
  $("confirm-form").addEventListener("submit", (event) => {
    event.preventDefault();
    purge(current(), refresh);
  });
}

// The key stays in its field: in this page's memory, and nowhere else.
async function purge(state, refresh) {
  const headers = { "Content-Type": "application/json" };
  if (state.purge_needs_key) headers.Authorization = `Bearer ${$("key").value.trim()}`;
  const body = JSON.stringify({ stream: state.stream, campaign: shown.id });
  let said = "The gateway does not answer.";
  try {
    const answer = await fetch("/console/purge", { method: "POST", headers, body });
    const told = await answer.json();
    said = answer.ok
      ? "Purged. It is read again out of the background's calls."
      : `Not purged: ${told.detail ?? answer.status}.`;
  } catch {
    // What `said` says.
  }
  $("confirm").close();
  text($("purged"), said);
  refresh();
}
