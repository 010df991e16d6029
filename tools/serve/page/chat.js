// The conversation: what was said, how it is shown, and how a reply comes.
const chats = store.read("chats", []);
let chat = null;      // the one that is open; null: a new one, not kept before something is said
let reply = null;     // what is being written: {controller, message}
const mostChats = 200;

const messages = byId("messages");
const input = byId("input");

function say(text) { byId("status").textContent = text; }

function keep() {
  if (chat && !chats.includes(chat)) chats.unshift(chat);
  chats.length = Math.min(chats.length, mostChats);
  while (!store.write("chats", chats) && chats.length > 1) chats.pop();
  showChats();
}

function showChats() {
  byId("chats").replaceChildren(...chats.map((each) => {
    const title = each.title || "Chat";
    return make("li", { className: each === chat ? "current" : "" },
      make("button", { type: "button", textContent: title, title, onclick: () => open(each) }),
      make("button", { type: "button", textContent: "\u00d7", ariaLabel: "Delete " + title, onclick: () => remove(each) }));
  }));
}

function open(each) {
  stop();
  chat = each;
  byId("side").classList.remove("open");
  byId("show-side").setAttribute("aria-expanded", "false");
  show();
  showChats();
  input.focus();
}

function remove(each) {
  if (each === chat) { stop(); chat = null; show(); }
  const at = chats.indexOf(each);
  if (at >= 0) chats.splice(at, 1);
  store.write("chats", chats);
  showChats();
}

// ---- messages ----

function noteOf(message) {
  const parts = [];
  if (message.speed) parts.push(message.speed.toFixed(1) + " tokens/s");
  if (message.tokens) parts.push(message.tokens + " tokens");
  if (message.prompt) parts.push(message.prompt + " of prompt, " + (message.cached || 0) + " cached");
  if (message.cut) parts.push("stopped");
  return parts.join(" \u00b7 ");
}

function fill(element, message) {
  const body = [];
  if (message.reasoning) {
    const old = element.querySelector("details.thought");
    body.push(make("details", { className: "thought", open: old ? old.open : !message.content },
      make("summary", { textContent: "Thoughts" }), make("pre", { textContent: message.reasoning })));
  }
  if (message.role === "user") body.push(make("div", { className: "body", textContent: message.content }));
  else body.push(make("div", { className: "body" }, ...markdown(message.content)));
  if (message.error) body.push(make("p", { className: "error", role: "alert", textContent: message.error }));
  const note = noteOf(message);
  if (note) body.push(make("div", { className: "note", textContent: note }));
  element.replaceChildren(element.firstChild, ...body);
  element.classList.toggle("busy", Boolean(reply && reply.message === message));
}

function elementOf(message) {
  const index = () => chat.messages.indexOf(message);
  const action = (label, act) => make("button", { type: "button", textContent: label, onclick: act });
  const actions = [];
  const copy = action("Copy", () => copyText(message.content, copy));
  actions.push(copy);
  if (message.role === "user") actions.push(action("Edit", () => edit(index())));
  else actions.push(action("Regenerate", () => regenerate(index())));
  const who = make("div", { className: "who" }, make("span", { textContent: message.role === "user" ? "You" : "Model" }),
    make("span", { className: "actions" }, ...actions));
  const element = make("article", { className: "message " + message.role }, who);
  fill(element, message);
  return element;
}

function show() {
  const list = chat ? chat.messages : [];
  messages.replaceChildren(...list.map(elementOf));
  messages.scrollTop = messages.scrollHeight;
}

function edit(index) {
  stop();
  const message = chat.messages[index];
  const element = messages.children[index];
  const area = make("textarea", { value: message.content, rows: 4, ariaLabel: "Edited message" });
  area.style.width = "100%";
  const done = () => {
    const text = area.value.trim();
    if (!text) return;
    chat.messages.length = index;
    send(text);
  };
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") show();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) done();
  });
  element.replaceChildren(element.firstChild, area, make("p", {},
    make("button", { type: "button", className: "main", textContent: "Send", onclick: done }), " ",
    make("button", { type: "button", textContent: "Cancel", onclick: show })));
  area.focus();
}

function regenerate(index) {
  stop();
  chat.messages.length = index;
  ask();
}

function send(text) {
  if (!chat) chat = { title: text.slice(0, 60), messages: [] };
  chat.messages.push({ role: "user", content: text });
  ask();
}

// ---- the reply ----

function requestOf(list) {
  const body = { stream: true, stream_options: { include_usage: true }, messages: [] };
  if (settings.system) body.messages.push({ role: "system", content: settings.system });
  for (const message of list) body.messages.push({ role: message.role, content: message.content });
  for (const name of ["temperature", "top_p", "top_k", "min_p", "max_tokens", "seed"]) {
    if (settings[name] !== "") body[name] = Number(settings[name]);
  }
  return body;
}

function take(event, message) {
  if (event.error) { message.error = event.error.message; return; }
  const choice = event.choices && event.choices[0];
  if (choice && choice.delta) {
    message.content += choice.delta.content || "";
    if (choice.delta.reasoning_content) message.reasoning = (message.reasoning || "") + choice.delta.reasoning_content;
  }
  if (choice && choice.finish_reason === "length") message.cut = true;
  if (event.usage) {
    message.tokens = event.usage.completion_tokens;
    message.prompt = event.usage.prompt_tokens;
    message.cached = event.usage.prompt_tokens_details && event.usage.prompt_tokens_details.cached_tokens;
  }
  if (event.timings) message.speed = event.timings.predicted_per_second;
}

async function errorOf(response) {
  try { return (await response.json()).error.message; } catch { return "The server answered " + response.status; }
}

async function readEvents(response, onEvent) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") onEvent(JSON.parse(line.slice(6)));
    }
  }
}

async function ask() {
  const request = requestOf(chat.messages);
  const message = { role: "assistant", content: "" };
  const mine = { controller: new AbortController(), message };
  const into = chat;
  reply = mine;
  into.messages.push(message);
  show();
  busy(true);
  let drawing = false;
  const draw = () => {
    drawing = false;
    if (chat !== into) return;
    const element = messages.children[into.messages.indexOf(message)];
    if (!element) return;
    const atEnd = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 60;
    fill(element, message);
    if (atEnd) messages.scrollTop = messages.scrollHeight;
  };
  const drawSoon = () => { if (!drawing) { drawing = true; requestAnimationFrame(draw); } };
  try {
    const response = await fetch("/v1/chat/completions", { method: "POST", headers: headers(), body: JSON.stringify(request),
      signal: mine.controller.signal });
    if (!response.ok) message.error = await errorOf(response);
    else await readEvents(response, (event) => { take(event, message); drawSoon(); });
  } catch (error) {
    if (error.name === "AbortError") message.cut = true;
    else message.error = "The server cannot be reached: " + error.message;
  }
  if (reply === mine) { reply = null; busy(false); }
  draw();
  keep();
}

function stop() {
  if (!reply) return;
  reply.controller.abort();
  reply = null;
  busy(false);
}

function busy(is) {
  byId("send").hidden = is;
  byId("stop").hidden = !is;
  say(is ? "Writing; Escape stops" : "");
}

// ---- what the user does ----

function grow() {
  input.style.height = "auto";
  input.style.height = Math.min(input.scrollHeight + 2, innerHeight * 0.4) + "px";
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = input.value.trim();
  if (!text || reply) return;
  input.value = "";
  grow();
  send(text);
});
input.addEventListener("input", grow);
input.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("composer").requestSubmit();
  }
  if (event.key === "ArrowUp" && input.value === "" && chat) {
    const last = chat.messages.map((message) => message.role).lastIndexOf("user");
    if (last >= 0) { event.preventDefault(); edit(last); }
  }
});
byId("stop").addEventListener("click", stop);
byId("new-chat").addEventListener("click", () => open(null));
byId("show-side").addEventListener("click", () => {
  const is = byId("side").classList.toggle("open");
  byId("show-side").setAttribute("aria-expanded", String(is));
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && reply && !byId("settings").open) stop();
  if (event.altKey && event.key.toLowerCase() === "n") { event.preventDefault(); open(null); }
});

const dialog = byId("settings");
byId("show-settings").addEventListener("click", () => {
  for (const field of dialog.querySelectorAll("[name]")) field.value = settings[field.name];
  dialog.returnValue = "";
  dialog.showModal();
});
dialog.addEventListener("close", () => {
  if (dialog.returnValue !== "save") return;
  for (const field of dialog.querySelectorAll("[name]")) settings[field.name] = field.value;
  store.write("settings", settings);
  applyTheme();
  showModel();
});
byId("clear-all").addEventListener("click", () => {
  if (!confirm("Delete all chats of this browser?")) return;
  chats.length = 0;
  store.write("chats", chats);
  dialog.close();
  open(null);
});

async function showModel() {
  try {
    const response = await fetch("/v1/models", { headers: headers() });
    if (!response.ok) { say(await errorOf(response)); return; }
    const name = (await response.json()).data[0].id;
    byId("model").textContent = name;
    document.title = name;
    say("");
  } catch { say("The server cannot be reached"); }
}

show();
showChats();
showModel();
input.focus();
