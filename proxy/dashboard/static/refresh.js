// Keeps the page current: fetches it again every few seconds and swaps what <main> holds. Without it the page still works.
"use strict";

const live = document.getElementById("live");

function busy() {
  return document.hidden || !getSelection().isCollapsed;
}

function swap(page) {
  const open = [...document.querySelectorAll("details[open][id]")].map((details) => details.id);
  const focused = document.activeElement?.id;
  for (const id of ["main", "live"]) {
    document.getElementById(id).replaceChildren(...page.getElementById(id).childNodes);
  }
  open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

async function refresh() {
  if (busy()) return;
  try {
    const answer = await fetch("/", { redirect: "manual", signal: AbortSignal.timeout(10_000) });
    if (answer.type === "opaqueredirect") return location.reload(); // signed out
    if (!answer.ok) throw new Error(answer.status);
    swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    live.classList.remove("stale");
  } catch {
    live.classList.add("stale");
  }
}

async function keep() {
  await refresh();
  setTimeout(keep, live.dataset.refreshS * 1000);
}

setTimeout(keep, live.dataset.refreshS * 1000);
document.addEventListener("visibilitychange", refresh);
