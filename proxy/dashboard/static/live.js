// Keeps an open page current: told by server-sent events that something changed, it fetches itself again and swaps what
// is marked data-live. Without it the page still works, and shows what was when it was loaded.
"use strict";

const BETWEEN_MS = 1000; // fetches of a busy ledger's page
const AGAIN_MS = 5000; // after the connection was lost

let wanted = document.getElementById("live").dataset.version;
let fetching = false;

function live() {
  return document.getElementById("live");
}

// What a person is typing into, has selected or unfolded is theirs.
function busy(part) {
  const focused = document.activeElement;
  if (part.contains(focused) && focused.matches("input:not([type=hidden]), textarea, select")) return true;
  const selected = getSelection();
  return !selected.isCollapsed && selected.containsNode(part, true);
}

function swap(part, fresh) {
  const rows = new Set([...part.querySelectorAll("[data-row]")].map((row) => row.dataset.row));
  const open = [...part.querySelectorAll("details[open][id]")].map((details) => details.id);
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  for (const { name, value } of fresh.attributes) if (name.startsWith("data-")) part.setAttribute(name, value);
  part.replaceChildren(...fresh.childNodes);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  if (rows.size) for (const row of part.querySelectorAll("[data-row]")) row.classList.toggle("new", !rows.has(row.dataset.row));
}

async function refresh() {
  const answer = await fetch(location.href, { redirect: "manual", signal: AbortSignal.timeout(10_000) });
  if (answer.type === "opaqueredirect") return location.reload(); // signed out
  if (!answer.ok) throw new Error(answer.status);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live][id]")) {
    const fresh = page.getElementById(part.id);
    if (fresh && fresh.innerHTML !== part.innerHTML && !busy(part)) swap(part, fresh);
  }
  live().classList.remove("stale");
}

async function catchUp() {
  if (fetching || document.hidden || wanted === live().dataset.version) return;
  fetching = true;
  let wait = BETWEEN_MS;
  try {
    const told = wanted;
    await refresh();
    live().dataset.version = told; // even where the page's own was older still: another event tells
  } catch {
    live().classList.add("stale");
    wait = AGAIN_MS;
  }
  setTimeout(() => {
    fetching = false;
    catchUp();
  }, wait);
}

function listen() {
  const events = new EventSource("/ui/events");
  events.onopen = () => live().classList.remove("stale");
  events.onmessage = (event) => {
    wanted = event.data;
    catchUp();
  };
  events.onerror = () => {
    live().classList.add("stale");
    if (events.readyState !== EventSource.CLOSED) return; // it connects again by itself
    setTimeout(() => {
      refresh().catch(() => {}); // signed out? then this says so
      listen();
    }, AGAIN_MS);
  };
  addEventListener("pagehide", () => events.close(), { once: true });
}

document.addEventListener("visibilitychange", catchUp);
addEventListener("pageshow", (event) => event.persisted && location.reload());
for (const field of document.querySelectorAll("[data-submits]")) field.addEventListener("change", () => field.form.submit());
listen();
