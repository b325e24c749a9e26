"use strict";

// Puts the sections of each event in the place of those that differ, and leaves alone the one that
// has the focus.
document.documentElement.classList.add("scripts");
const connection = document.getElementById("connection");
const words = document.getElementById("words");
const say = (text) => { if (connection.textContent !== text) connection.textContent = text; };

function filter() {
  const wanted = words.value.trim().toLowerCase();
  for (const row of document.querySelectorAll("#recent tbody tr")) {
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
  }
}

function show(html) {
  const next = new DOMParser().parseFromString(html, "text/html");
  for (const section of next.querySelectorAll("section[id]")) {
    const shown = document.getElementById(section.id);
    const isBusy = shown && shown.contains(document.activeElement);
    if (!shown || isBusy || shown.innerHTML === section.innerHTML) continue;
    shown.replaceChildren(...section.childNodes);
  }
  filter();
}

const events = new EventSource("events");
events.onopen = () => say("live");
events.onerror = () => say("the connection to Larder is lost; trying again");
events.onmessage = (event) => show(event.data);
words.addEventListener("input", filter);
document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("click", async (event) => {
  const command = event.target.dataset ? event.target.dataset.copy : undefined;
  if (!command) return;
  try {
    await navigator.clipboard.writeText(command);
    say("copied: " + command);
  } catch {
    say(command);
  }
});
