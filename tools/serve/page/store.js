// What is kept in the browser: settings, and conversations. A browser that keeps nothing (private
// windows, a full disk) still chats.
const store = {
  read(name, otherwise) {
    try {
      const text = localStorage.getItem("thermocline." + name);
      return text === null ? otherwise : JSON.parse(text);
    } catch { return otherwise; }
  },
  write(name, value) {
    try { localStorage.setItem("thermocline." + name, JSON.stringify(value)); return true; } catch { return false; }
  },
};

const settings = Object.assign({ system: "", temperature: "", top_p: "", top_k: "", min_p: "", max_tokens: "", seed: "",
  key: "", theme: "" }, store.read("settings", {}));

const byId = (id) => document.getElementById(id);

// Makes an element; texts become text nodes, whatever they look like.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function headers() {
  const all = { "Content-Type": "application/json" };
  if (settings.key) all.Authorization = "Bearer " + settings.key;
  return all;
}

function applyTheme() {
  if (settings.theme) document.documentElement.dataset.theme = settings.theme;
  else delete document.documentElement.dataset.theme;
}
applyTheme();
