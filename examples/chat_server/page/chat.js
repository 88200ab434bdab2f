
const $ = id => document.getElementById(id);
const SETTINGS = document.body.dataset;
const DEMO = SETTINGS.demo.split(" ").filter(Boolean);
const TROUBLE = { 401: "You are signed out." };
const SAYS_WHY = [403, 409, 413, 429, 503];

let open = null;      // the id of the open conversation; null for one that has not begun
let opened = {};      // anew when a conversation is opened, or has grown: what was asked before that is dropped
let seen = null;      // the version of it that is in sight
let writing = false;  // an answer is being streamed
let stopping = false; // and is to end
let listed = [];      // the conversations as the server last told them, and when that was
let listedAt = 0;
let user = null;
let soon;             // a timer: something is about to change
let ready;            // a promise: who speaks is known, and what was said before is in sight

// Asking the server. Whatever goes wrong becomes an error whose message can be shown.

async function ask(path, method = "GET", body = undefined, headers = {}) {
  let response;
  if (body) headers = { ...headers, "content-type": "application/json" };
  try { response = await fetch(path, { method, headers, body: body && JSON.stringify(body) }); } catch { throw Object.assign(new Error("The server does not answer."), { passing: true }); }
  if (response.ok) return response;
  const told = SAYS_WHY.includes(response.status) ? (await response.json()).detail + "." : TROUBLE[response.status] ?? `The server answered ${response.status}.`;
  throw Object.assign(new Error(told), { status: response.status, passing: response.status === 503 });
}

const at = (id, more = "") => `/conversations/${encodeURIComponent(id)}${more}`;

// Where a conversation lives.

const left = one => Math.max(0, one.hot_for_s - (performance.now() - listedAt) / 1000);

function span(seconds) {
  const whole = Math.round(seconds);
  if (whole <= 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")} min`;
  return whole < 172800 ? `${Math.round(whole / 3600)} h` : `${Math.round(whole / 86400)} days`;
}

function badge(one) {
  return { ephemeral: `Redis only · ${span(left(one))} left`, dirty: "being copied", clean: "Redis + Postgres", cold: "Postgres" }[one.state] + (one.pinned ? " · pinned" : "");
}

function story(one) {
  if (!one) return "It begins with your first message, in Redis, and is forgotten if you leave it at that.";
  const kept = one.pinned ? "Kept, because it is pinned." : "Kept.";
  return {
    ephemeral: `Only Redis has it, and forgets it in ${span(left(one))}. Go on, or pin it, and it is kept.`,
    dirty: `${kept} Redis has what Postgres has not committed yet, and lets go of nothing before that is done.`,
    clean: `${kept} Postgres has all of it. Redis has it at hand for another ${span(left(one))}, and could lose it without harm.`,
    cold: `${kept} Postgres has all of it, and it costs Redis nothing. Go on, and Redis has it at hand again.`,
  }[one.state];
}

const checkpoints = count => `${count} checkpoint${count === 1 ? "" : "s"}`;

function what(tier, ...words) {
  const spans = $(tier).querySelector(".what").children;
  [0, 1].forEach(number => { spans[number].textContent = words[number] ?? ""; });
}

function drawStrip(one) {
  const hot = one && one.state !== "cold", cold = one && ["clean", "cold"].includes(one.state);
  $("hot").classList.toggle("here", !!hot);
  $("cold").classList.toggle("here", !!cold);
  what("hot", ...(hot ? [checkpoints(one.hot_checkpoints), one.hot_for_s === null ? "no expiry" : `${span(left(one))} left`] : ["not here"]));
  $("hot").querySelector("i").style.width = hot && one.hot_for_s !== null ? `${100 * Math.min(1, left(one) / (one.state === "clean" ? SETTINGS.hot : SETTINGS.ttl))}%` : "0";
  const way = one?.state === "ephemeral" ? Math.min(1, one.hot_checkpoints / SETTINGS.promote) : 0;
  const all = checkpoints(one?.cold_checkpoints);
  what("cold", ...({ ephemeral: ["not yet", `at ${checkpoints(+SETTINGS.promote)}`], dirty: one?.cold_checkpoints ? [all, "so far"] : ["being copied"], clean: [all, "for good"], cold: [all, "for good"] }[one?.state] ?? ["not here"]));
  $("cold").querySelector("i").style.width = `${100 * way}%`;
  $("flow").className = { dirty: "on", clean: "done" }[one?.state] ?? "";
  $("where").textContent = story(one);
  $("pin").ariaPressed = !!one?.pinned;
  $("pin").textContent = one?.pinned ? "Unpin" : "Pin";
  $("pin").disabled = !one || writing;
  $("pin").title = one?.pinned ? "Take back the pin. What is kept stays kept." : "Keep this conversation in Postgres, however short it is";
  $("evict").disabled = !cold || one.state === "cold" || writing;
  $("evict").title = one?.state === "ephemeral" ? "Only Redis has it: there is nothing to fall back on" : "Make Redis let go of it: Postgres has it";
  $("wipe").hidden = !DEMO.length;
  $("wipe").title = "Delete everything in Redis, as a crash without persistence would";
}

// What is shown.

const items = new Map();  // id -> its line: lines are kept, so that the keyboard's focus stays where it is

function line(one) {
  const title = node("span", [], { className: "title" }), mark = node("span", []), waits = node("span", [], { className: "badge waits" });
  const choose = node("button", [title, mark, waits], { className: "open-it", onclick: () => show(one.id) });
  const gone = node("button", ["✕"], { className: "quiet delete", onclick: () => forget(one.id) });
  return { item: node("li", [choose, gone]), title, mark, waits, choose, gone };
}

function draw() {
  for (const [id, { item }] of items) if (!listed.some(one => one.id === id)) { item.remove(); items.delete(id); }
  listed.forEach((one, index) => {
    if (!items.has(one.id)) items.set(one.id, line(one));
    const { item, title, mark, waits, choose, gone } = items.get(one.id);
    item.classList.toggle("open", one.id === open);
    choose.ariaCurrent = one.id === open;
    title.textContent = title.title = one.title;
    mark.className = "badge " + one.state;
    mark.textContent = badge(one);
    waits.textContent = one.waits ? "waits for you" : "";
    gone.ariaLabel = gone.title = `Delete “${one.title}”`;
    if ($("list").children[index] !== item) $("list").insertBefore(item, $("list").children[index] ?? null);
  });
  const one = listed.find(one => one.id === open);
  $("title").textContent = one ? one.title : "New conversation";
  document.title = one ? `${one.title} · Chat` : "Chat";
  drawStrip(one);
  const waits = !!$("log").querySelector(".approval");
  $("send").hidden = writing;
  $("stop").hidden = !writing;
  $("stop").disabled = stopping;
  $("send").disabled = waits;
  for (const button of document.querySelectorAll(".approval button, #suggestions button")) button.disabled = writing;
  $("text").placeholder = waits ? "Approve or reject first …" : "Say something …";
}

let follow = true;  // the latest message stays in sight, unless somebody has scrolled up

const toTheEnd = () => { $("messages").scrollTop = $("messages").scrollHeight; };
$("messages").onscroll = () => { follow = $("messages").scrollHeight - $("messages").scrollTop - $("messages").clientHeight < 40; };
const grown = new ResizeObserver(() => { if (follow) toTheEnd(); });
grown.observe($("messages"));
grown.observe($("log"));

function message({ by, text, tool, asked, stopped, id }) {
  const names = { human: "You", ai: "Assistant", tool: "Tool", approval: "Approval" };
  const content = {
    human: () => [text],
    ai: () => [markdown(text)],
    tool: () => [node("span", [`${tool}(${asked})`]), ` → ${text}`],
    approval: () => [node("b", ["Needs your approval"]), node("p", [text]), node("div", [
      node("button", ["Approve"], { className: "primary", onclick: () => decide(id, true) }), node("button", ["Reject"], { onclick: () => decide(id, false) }),
    ], { className: "row" })],
  }[by]();
  return node("div", content, { className: `message ${by}${stopped ? " stopped" : ""}`, role: "article", ariaLabel: names[by] });
}

function add(said) {
  $("log").querySelector(".empty")?.remove();
  const made = message(said);
  $("log").append(made);
  follow = true;
  return made;
}

function showAll(said) {
  $("log").replaceChildren(...said.map(message));
  suggest();
}

function welcome() {
  $("log").replaceChildren(node("div", [
    node("h2", ["Where does a conversation live?"]),
    node("ol", [
      node("li", [node("b", ["Say something."]), " It is in Redis only, and the clock is running."]),
      node("li", [node("b", ["Go on."]), " With its third message it is copied to Postgres, and kept."]),
      ...(DEMO.length ? [node("li", [node("b", ["Wipe Redis."]), " What was kept goes on as if nothing had happened."])] : []),
    ]),
  ], { className: "empty" }));
  suggest();
}

function farewell(title, text) {
  $("log").replaceChildren(node("div", [
    node("h2", [title]), node("p", [text]), node("button", ["Begin a new one"], { onclick: () => show(null) }),
  ], { className: "empty" }));
  suggest();
}

function suggest() {
  const name = user ? user[0].toUpperCase() + user.slice(1) : "Alice";
  const said = [...$("log").querySelectorAll(".human")].map(one => one.textContent);
  const all = [`My name is ${name}.`, ...(said.length ? ["What is my name?"] : []), "What is 12*7?", "Refund order 17", ...(said.length > 1 ? ["What have I said?"] : [])];
  const offered = $("log").querySelector(".approval") ? [] : all.filter(one => !said.includes(one)).slice(0, 3);
  $("suggestions").replaceChildren(...offered.map(one => node("button", [one], { type: "button", onclick: () => { $("text").focus(); send(one); } })));
}

function notice(text) {
  if ($("notice").textContent !== text) $("notice").textContent = text;
  if (text) news("");
}

function news(text) {
  $("news").textContent = text;
}

function sure(title, text, yes) {
  $("sure-title").textContent = title;
  $("sure-text").textContent = text;
  $("sure-yes").textContent = yes;
  $("sure").returnValue = "";
  $("sure").showModal();
  return new Promise(resolve => { $("sure").onclose = () => resolve($("sure").returnValue === "yes"); });
}

// What can be done.

async function refresh() {
  if (document.hidden) return;
  const mine = opened;
  try {
    const answered = await (await ask("/conversations")).json();
    if (mine !== opened) return;
    const before = listed.find(one => one.id === open), one = answered.find(one => one.id === open);
    const lapsed = before?.state === "ephemeral" && left(before) < 3;
    [listed, listedAt] = [answered, performance.now()];
    if ($("notice").dataset.passing) { notice(""); delete $("notice").dataset.passing; }
    if (!writing && open && !one) missing(lapsed);
    else if (!writing && one && one.version !== seen) await reread();
  } catch (trouble) { failed(trouble); }
  draw();
  clearTimeout(soon);
  if (listed.some(one => one.state === "dirty")) soon = setTimeout(refresh, 600);
}

function missing(lapsed) {
  leave();
  if (lapsed) farewell("This conversation has expired", `Nobody said anything for ${span(SETTINGS.ttl)}, so Redis has forgotten it, and it was nowhere else. A longer one would have been kept.`);
  else farewell("There is no such conversation here", "It has expired, was deleted, or is not yours.");
}

function leave() {
  [open, opened, seen, writing, stopping] = [null, {}, null, false, false];
  history.replaceState(null, "", "#");
}

async function failed(trouble) {
  notice(trouble.message + (trouble.passing ? " Trying again …" : ""));
  if (trouble.passing) $("notice").dataset.passing = true;
  if (trouble.status !== 401) return;
  await fetch("/session", { method: "DELETE" });
  await (ready = start(trouble.message));
}

async function reread() {
  const mine = opened, response = await ask(at(open)), said = await response.json();
  if (mine !== opened || writing) return;
  seen = response.headers.get("etag");
  showAll(said);
}

async function show(id) {
  leave();
  open = id;
  follow = true;
  history.replaceState(null, "", id ? "#" + id : "#");
  document.body.classList.remove("listing");
  notice("");
  news("");
  if (id) showAll([]); else welcome();
  draw();
  if (!matchMedia("(pointer: coarse)").matches) $("text").focus();  // no keyboard on the screen before it is wanted
  if (!id) return;
  try { await reread(); } catch (trouble) { if ([404, 405].includes(trouble.status)) missing(); else failed(trouble); }
  draw();
}

async function forget(id) {
  if (!await sure("Delete this conversation?", "It is deleted from Redis and from Postgres, for good.", "Delete")) return;
  try {
    await ask(at(id), "DELETE");
    if (id === open) show(null); else $("new").focus();
  } catch (trouble) { failed(trouble); }
  await refresh();
}

async function act(what, method, done) {
  notice("");
  try {
    await ask(at(open, what), method);
    await refresh();
    news(done);
    if (document.activeElement === document.body) $("messages").focus();  // the button may have been disabled
  } catch (trouble) { failed(trouble); }
}

async function wipe() {
  const before = listed, short = before.filter(one => one.state === "ephemeral").length;
  const told = `Everything in Redis is deleted, as a crash would. ${conversations(short, "is", "are")} in Redis only and will be gone; the others are in Postgres too, and stay.`;
  if (!await sure("Wipe Redis?", told, "Wipe Redis")) return;
  notice("");
  try {
    await ask("/demo/redis", "DELETE");
    await refresh();
    const stay = before.filter(one => listed.some(other => other.id === one.id)).length;
    const gone = before.length - stay;
    news(`Redis is empty. ${conversations(stay, "is", "are")} still here, in Postgres.` + (gone ? ` ${conversations(gone, "was", "were")} in Redis only, and went with it.` : ""));
  } catch (trouble) { failed(trouble); }
}

const conversations = (count, one, more) => count === 1 ? `1 conversation ${one}` : `${count || "No"} conversations ${more}`;

// One turn: a message or a decision, and its answer.

async function turn(path, body, question) {
  const mine = opened, answer = add({ by: "ai", text: "" });
  let written = "", drawing = false;
  answer.classList.add("writing");
  [writing, stopping] = [true, false];
  $("log").ariaBusy = true;
  notice("");
  news("");
  draw();
  const drawAnswer = () => { drawing = false; answer.replaceChildren(markdown(written)); };
  try {
    const response = await ask(path, "POST", body);
    if (mine === opened) {
      history.replaceState(null, "", "#" + (open = response.headers.get("x-conversation")));
      if (stopping) stop();
    }
    const words = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let piece; !(piece = await words.read().catch(() => { throw Object.assign(new Error("The answer broke off."), { status: 0 }); })).done;) {
      written += piece.value;
      if (!drawing) drawing = requestAnimationFrame(drawAnswer);
    }
  } catch (trouble) {
    if (mine === opened) {
      if (trouble.status !== 0) { question?.remove(); answer.remove(); if (question) $("text").value ||= body.text; }  // nothing said is lost
      if (trouble.status === 404) missing();
      else failed(trouble);
    }
  }
  answer.classList.remove("writing");
  if (drawing) drawAnswer();
  if (!written.trim()) answer.remove();
  $("log").ariaBusy = false;
  if (mine === opened) [opened, writing, stopping] = [{}, false, false];
  draw();
  await refresh();
}

async function send(text) {
  await ready;
  if (!text || writing || $("log").querySelector(".approval")) return;
  $("suggestions").replaceChildren();
  await turn(open ? at(open) : "/conversations", { text }, add({ by: "human", text }));
}

function decide(id, approve) {
  if (writing) return;
  $("log").querySelector(".approval")?.remove();
  $("text").focus();
  turn(at(open, "/decision"), { id, approve });
}

async function stop() {
  stopping = true;
  draw();
  if (open) await ask(at(open, "/answer"), "DELETE").catch(failed);
}

// Who speaks.

async function start(told = "") {
  try {
    ({ user } = await (await ask("/session")).json());
    $("name").textContent = user ?? "Anonymous visitor";
    $("sign").textContent = user ? "Sign out" : "Sign in";
    $("sign").onclick = user ? signOut : askWho;
  } catch (trouble) {
    if (trouble.passing) setTimeout(start, 2000, told);
    return failed(trouble);
  }
  await refresh();
  await show(location.hash.slice(1) || null);
  if (told) notice(told);
}

function askWho() {
  $("signing").returnValue = "";
  $("by-token").open = !DEMO.length;
  $("signing").showModal();
}

async function signOut() {
  await ask("/session", "DELETE").catch(failed);
  history.replaceState(null, "", "#");
  await (ready = start());
}

async function signIn(how, untrue) {
  history.replaceState(null, "", "#");
  try { await how(); } catch (trouble) { return trouble.status === 401 ? notice(untrue) : failed(trouble); }
  await (ready = start());
}

$("signing").onclose = async () => {
  const token = $("token").value.trim(), chosen = $("signing").returnValue;
  $("token").value = "";
  if (chosen === "token") await signIn(() => ask("/session", "POST", undefined, { authorization: "Bearer " + token }), "This token is not valid here.");
  else if (DEMO.includes(chosen)) await signIn(() => ask("/demo/session", "POST", { user: chosen }), "");
};
$("users").hidden = !DEMO.length;
$("user-buttons").append(...DEMO.map(one => node("button", [one], { value: one })));

$("form").onsubmit = event => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || writing || $("send").disabled) return;
  $("text").value = "";
  $("text").focus();
  send(text);
};
$("text").onkeydown = event => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("form").requestSubmit();
};
$("stop").onclick = () => { $("text").focus(); stop(); };
$("new").onclick = () => show(null);
$("back").onclick = () => document.body.classList.add("listing");
$("pin").onclick = () => $("pin").ariaPressed === "true" ? act("/pin", "DELETE", "No longer pinned. It stays kept.") : act("/pin", "PUT", "Pinned: Postgres has it, and it does not expire.");
$("evict").onclick = () => act("/hot", "DELETE", "Redis has let go of it. Nothing is lost: go on, and it is read from Postgres.");
$("wipe").onclick = wipe;
window.onkeydown = event => { if (event.key === "Escape" && writing && !document.querySelector("dialog[open]")) stop(); };
window.onhashchange = () => show(location.hash.slice(1) || null);
document.onvisibilitychange = refresh;
setInterval(refresh, 2000);
setInterval(draw, 1000);
if (location.hash.length < 2) welcome();
draw();
ready = start();
