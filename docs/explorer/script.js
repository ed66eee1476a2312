"use strict";
// Shows one setting of data/explorer.json, which stands in the page. Nothing is computed by a model
// here: every number was asked before, so a dose is one of those in the file.

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const controls = ["city", "block", "question", "dose"];
const BASE = data.doses.indexOf(0);
const EARTH_KM = 6371;
const part = (whole) => whole / data.unit; // shares stand in the file as whole thousandths

/** No option has quite nothing or all; the space before the sign does not break. */
function percent(share) {
  if (share < 0.005) return "under 1\u00a0%";
  return share > 0.995 ? "over 99\u00a0%" : `${Math.round(100 * share)}\u00a0%`;
}

const plain = (number) => String(number).replace("-", "−");
const degrees = ([north, east]) =>
  `${Math.abs(Math.round(north))}° ${north < 0 ? "south" : "north"}, ` +
  `${Math.abs(Math.round(east))}° ${east < 0 ? "west" : "east"}`;
const best = (shares) => shares.indexOf(Math.max(...shares));

/** Great-circle distance of two [latitude, longitude] in degrees. */
function kilometres(a, b) {
  const [la, lo, lb, lp] = [...a, ...b].map((x) => (x * Math.PI) / 180);
  const [dy, dx] = [Math.sin((lb - la) / 2), Math.sin((lp - lo) / 2)];
  const h = dy ** 2 + Math.cos(la) * Math.cos(lb) * dx ** 2;
  return 2 * EARTH_KM * Math.asin(Math.min(1, Math.sqrt(h)));
}

/** Everything that is shown at one setting: numbers in data's lists. */
function view({ city, block, question, dose }) {
  const place = data.cities[city];
  const vector = place.vectors[block];
  const asked = place.questions[question];
  const truth = asked.options.indexOf(asked.truth);
  const right = (d) =>
    place.questions.filter((q, i) => q.options[best(vector.shares[d][i])] === q.truth).length;
  return {
    place, asked,
    shares: vector.shares[dose][question].map(part), mass: part(vector.mass[dose][question]),
    baseShares: vector.shares[BASE][question].map(part),
    baseMass: part(vector.mass[BASE][question]),
    curves: place.vectors.map((v) => v.shares.map((asked) => part(asked[question][truth]))),
    right: right(dose), baseRight: right(BASE),
    point: vector.places[dose], origin: vector.places[BASE], trail: vector.places,
    truth: [place.latitude, place.longitude],
    block: vector.block, dose: data.doses[dose], probe: vector.probe,
  };
}

/** An element with text; text is never read as HTML. */
function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

const option = (text, value) => Object.assign(element("option", text), { value });

/** Options in groups, each with a name of its own. */
function grouped(values, group, text) {
  const groups = new Map();
  values.forEach((value, i) => {
    const label = group(value);
    if (!groups.has(label)) groups.set(label, Object.assign(element("optgroup"), { label }));
    groups.get(label).append(option(text(value), i));
  });
  return groups.values();
}

/** A part of a drawing. */
function drawn(name, attributes, text = "") {
  const made = document.createElementNS(at("map").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

const move = (id, x, y) => at(id).setAttribute("transform", `translate(${x} ${y})`);

function fillControls() {
  const blocks = (place) => `At block ${place.vectors.map((v) => v.block).join(", ")}`;
  at("city").append(...grouped(data.cities, blocks, (place) => `${place.name} (${place.code})`));
  const range = { min: data.doses[0], max: data.doses.at(-1), step: data.doses[1] - data.doses[0] };
  Object.assign(at("dose"), range);
  data.doses.filter(Number.isInteger).forEach((d) => at("ticks").append(option("", d)));
}

/** The questions name the code, and not all blocks were asked: so every city has its own. */
function fillOfCity(city) {
  const place = data.cities[city];
  const questions = grouped(place.questions, (asked) => asked.family, (asked) => asked.text);
  at("question").replaceChildren(...questions);
  const last = data.model.blocks - 1;
  const blocks = place.vectors.map((v, i) => option(`block ${v.block} of 0 to ${last}`, i));
  at("block").replaceChildren(...blocks);
}

function bar(share, className) {
  const cell = element("td", "", className);
  const line = element("span", "", "bar");
  line.style.width = `${100 * share}%`;
  cell.append(element("span", percent(share), "percent"), line);
  return cell;
}

function showAnswers(seen) {
  at("asked").textContent = seen.asked.text;
  at("answers").replaceChildren(...seen.asked.options.map((text, i) => {
    const isTrue = text === seen.asked.truth;
    const row = element("tr", "", isTrue ? "true" : "");
    const head = element("th", isTrue ? `${text} ✓ true` : text);
    head.scope = "row";
    row.append(head, bar(seen.shares[i], "now"), bar(seen.baseShares[i], "base"));
    return row;
  }));
  at("mass").textContent =
    `The bars compare these five only. Together they are ${percent(seen.mass)} of all that the ` +
    `model might say next (base model: ${percent(seen.baseMass)}).`;
  at("all").textContent =
    `Of all ${seen.place.questions.length} questions about ${seen.place.code}, ${seen.right} are ` +
    `right at this dose and block; ${seen.baseRight} by the base model.`;
}

function showMap(seen) {
  const put = (id, [north, east]) => move(id, east, -north);
  put("point", seen.point);
  put("origin", seen.origin);
  put("truth", seen.truth);
  const dots = seen.trail.map(([north, east]) => drawn("circle", { cx: east, cy: -north, r: 1.5 }));
  at("trail").replaceChildren(...dots);
  // The short way; one that leaves the map on one side comes back on the other.
  const [[y, x], [v, u]] = [seen.point, seen.truth];
  const turn = 360 * Math.round((x - u) / 360);
  at("way").setAttribute("d", `M${x} ${-y}L${u + turn} ${-v}M${x - turn} ${-y}L${u} ${-v}`);
  const off = Math.round(kilometres(seen.point, seen.truth)).toLocaleString("en");
  const error = Math.round(seen.probe.error_km).toLocaleString("en");
  at("truth-name").textContent = `truth: ${seen.place.name}`;
  at("map-text").textContent =
    `Read at block ${seen.probe.block}: ${degrees(seen.point)}, ` +
    `${off} km from ${seen.place.name}. On cities that it was not fitted on, the probe is off by ${error} km (median).`;
}

/** Where a dose and a share stand in the drawing of the doses. */
const [FIRST, LAST] = [34, 294];
const span = data.doses.at(-1) - data.doses[0];
const across = (dose) => FIRST + ((LAST - FIRST) * (dose - data.doses[0])) / span;
const up = (share) => 88 - 80 * share;

function drawAxes() {
  const label = (x, y, anchor, text) => drawn("text", { x, y, "text-anchor": anchor }, text);
  const whole = data.doses.filter(Number.isInteger);
  at("axes").append(
    ...[0, 0.5, 1].map((p) => label(30, up(p) + 3, "end", `${100 * p}\u00a0%`)),
    ...whole.map((d) => label(across(d), 101, "middle", plain(d))),
    ...whole.map((d) => drawn("path", { d: `M${across(d)} ${up(0)}v3` })),
    drawn("path", { d: `M${FIRST} ${up(1)}V${up(0)}H${LAST}` }),
  );
}

function showCurve(seen) {
  const chance = up(1 / seen.asked.options.length);
  const lines = seen.curves.map((curve, i) => {
    const points = curve.map((share, d) => `${across(data.doses[d])} ${up(share)}`);
    const name = i === setting.block ? "now" : "other";
    return drawn("path", { d: `M${points.join("L")}`, class: name });
  });
  const dashed = drawn("path", { class: "chance", d: `M${FIRST} ${chance}H${LAST}` });
  at("lines").replaceChildren(dashed, ...lines, lines[setting.block]);
  const share = seen.curves[setting.block][setting.dose];
  move("here", across(seen.dose), up(share));
  at("curve-text").textContent =
    `Share of ${seen.asked.truth} among the five, by dose. Thick: block ${seen.block}; thin: the ` +
    `other blocks; dashed: chance.`;
  const said = seen.curves[setting.block]
    .map((p, i) => [p, data.doses[i]])
    .filter(([, dose]) => Number.isInteger(dose))
    .map(([p, dose]) => `${percent(p)} at dose ${plain(dose)}`);
  at("curve-values").textContent =
    `Share of ${seen.asked.truth} at block ${seen.block}: ${said.join(", ")}.`;
}

/** What is shown, in two sentences, for those who do not see bars. */
function sentence(seen) {
  const { options, truth } = seen.asked;
  const [now, base] = [best(seen.shares), best(seen.baseShares)];
  const its = percent(seen.shares[options.indexOf(truth)]);
  const said = options[now] === truth ? "true" : `the truth, ${truth}, has ${its}`;
  return (
    `Dose ${plain(seen.dose)} at block ${seen.block}: ${options[now]}, ` +
    `${percent(seen.shares[now])} (${said}). ` +
    `Base model: ${options[base]}, ${percent(seen.baseShares[base])}.`
  );
}

/** The setting that an address names after #; what it does not name, or wrongly, is the first. */
function fromAddress() {
  const named = new URLSearchParams(location.hash.slice(1));
  const find = (key, values, otherwise = 0) => {
    const found = values.map(String).indexOf(named.get(key));
    return found < 0 ? otherwise : found;
  };
  const city = find("city", data.cities.map((place) => place.name));
  return {
    city,
    block: find("block", data.cities[city].vectors.map((v) => v.block)),
    question: find("question", data.cities[city].questions.map((asked) => asked.id)),
    dose: find("dose", data.doses, data.doses.indexOf(1)),
  };
}

function address({ city, block, question, dose }) {
  const place = data.cities[city];
  const named = { city: place.name, block: place.vectors[block].block, dose: data.doses[dose] };
  return "#" + new URLSearchParams({ ...named, question: place.questions[question].id });
}

let setting = fromAddress();
let listed = -1; // the city whose blocks and questions can be chosen
let pause;

function show() {
  const seen = view(setting);
  if (listed !== setting.city) fillOfCity(listed = setting.city);
  for (const id of ["city", "block", "question"]) at(id).value = setting[id];
  at("dose").value = seen.dose;
  at("dose-shown").textContent = `× ${plain(seen.dose)}`;
  const known = { 0: ", the base model", 1: ", as trained" }[seen.dose] ?? "";
  at("dose").setAttribute("aria-valuetext", plain(seen.dose) + known);
  showAnswers(seen);
  showMap(seen);
  showCurve(seen);
  // Once the reader stops: a screen reader would read every step, a browser count every address.
  clearTimeout(pause);
  pause = setTimeout(() => {
    at("said").textContent = sentence(seen);
    history.replaceState(null, "", address(setting));
  }, 250);
}

function changed() {
  const [city, chosen, question] = ["city", "block", "question"].map((id) => Number(at(id).value));
  // Another city may lack the block: the nearest one that it has.
  const wanted = data.cities[setting.city].vectors[chosen].block;
  const gaps = data.cities[city].vectors.map((v) => Math.abs(v.block - wanted));
  const block = gaps.indexOf(Math.min(...gaps));
  const off = data.doses.map((known) => Math.abs(known - at("dose").valueAsNumber));
  const dose = off.indexOf(Math.min(...off)); // a slider may round
  setting = { city, block, question, dose };
  show();
}

fillControls();
drawAxes();
for (const id of controls) at(id).addEventListener("input", changed);
at("controls").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("hashchange", () => { setting = fromAddress(); show(); });
at("made").textContent =
  `Model ${data.model.name} (${data.model.digest.slice(0, 12)}), library ` +
  `${data.versions.oocr_lib}, ${data.settings.steps} steps.`;
at("app").hidden = false;
show();
