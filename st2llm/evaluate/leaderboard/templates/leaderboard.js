"use strict";
const { keys, arms } = JSON.parse(document.getElementById("facets").textContent);
const form = document.getElementById("filters");
const shown = document.getElementById("shown");
const marks = [...document.querySelectorAll("[data-arm]")];
const groups = [...document.querySelectorAll(".group")].map(group => [group, [...group.querySelectorAll("[data-arm]")]]);

function asked() {
  return keys.map(key => form.elements[key].value);
}

function matches(values, wanted) {
  return wanted.every((want, i) => !want || !values[i] || (keys[i] === "seeds" ? +values[i] >= +want : values[i] === want));
}

function drawFrontiers(wanted) {
  document.querySelectorAll(".chosen").forEach(line => line.remove());
  if (!wanted[keys.indexOf("data")]) return;
  for (const svg of document.querySelectorAll("figure svg")) {
    const points = [...svg.querySelectorAll("circle.front:not([hidden])")].map(c => [+c.getAttribute("cx"), +c.getAttribute("cy")]);
    points.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
    let best = Infinity;
    const steps = points.filter(([, y]) => -y < best && (best = -y, true));
    if (steps.length < 2) continue;
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("class", "chosen");
    line.setAttribute("points", steps.map(point => point.join(",")).join(" "));
    svg.append(line);
  }
}

function apply() {
  const wanted = asked();
  const visible = arms.map(values => matches(values, wanted));
  for (const mark of marks) mark.toggleAttribute("hidden", !visible[+mark.dataset.arm]);
  for (const [group, own] of groups) group.hidden = own.every(mark => mark.hasAttribute("hidden"));
  const kept = arms.filter((_, i) => visible[i]);
  const sets = new Set(kept.map(values => values[keys.indexOf("data")])).size;
  shown.textContent = kept.length
    ? `${kept.length} of ${arms.length} arms on ${sets} data ${sets === 1 ? "set" : "sets"}`
    : "No arm has all of these values. Choose fewer filters.";
  drawFrontiers(wanted);
}

function readFragment() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (location.hash && !keys.some(key => given.has(key))) return false;
  for (const key of keys) {
    const select = form.elements[key], value = given.get(key) ?? "";
    select.value = [...select.options].some(option => option.value === value) ? value : "";
  }
  return true;
}

function writeFragment() {
  const parts = new URLSearchParams(keys.map((key, i) => [key, asked()[i]]).filter(([, value]) => value));
  history.replaceState(null, "", `#${parts}`);
}

form.hidden = false;
form.addEventListener("submit", event => event.preventDefault());
form.addEventListener("change", () => { apply(); writeFragment(); });
form.addEventListener("reset", () => setTimeout(() => { apply(); writeFragment(); }));
addEventListener("hashchange", () => { if (readFragment()) apply(); });
readFragment();
apply();
