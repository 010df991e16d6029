// What the model does while it works: polled while the panel is open.
const live = byId("live");
let timer = null;
let before = null;

function sizeText(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (bytes >= 1024 && i + 1 < units.length) { bytes /= 1024; i += 1; }
  return bytes.toFixed(bytes < 10 && i > 0 ? 1 : 0) + " " + units[i];
}

const shareText = (share) => (100 * share).toFixed(share < 0.1 ? 1 : 0) + " %";

function bar(id, parts) {
  const total = parts.reduce((sum, part) => sum + part.value, 0) || 1;
  const element = byId(id);
  element.replaceChildren(...parts.filter((part) => part.value > 0).map((part) => {
    const piece = make("span", { textContent: part.label, title: part.label });
    piece.style.width = (100 * part.value / total) + "%";
    piece.style.background = part.colour;
    return piece;
  }));
  element.setAttribute("aria-label", parts.map((part) => part.label).join(", "));
}

function heat(layers) {
  const element = byId("live-heat");
  element.replaceChildren(...layers.map((layer, i) => {
    const column = make("div", { title: "Layer " + i + ": " + shareText(layer.fired) + " fired, " + shareText(layer.hot) + " hot" });
    for (const [share, colour] of [[layer.fired, "--hot"], [layer.hot, "--cold"]]) {
      const cell = make("i");
      cell.style.background = "color-mix(in srgb, var(" + colour + ") " + Math.round(100 * share) + "%, var(--line))";
      column.append(cell);
    }
    return column;
  }));
  const mean = (name) => layers.reduce((sum, layer) => sum + layer[name], 0) / (layers.length || 1);
  element.setAttribute("aria-label", layers.length + " layers: on average " + shareText(mean("fired")) + " of the neurons fired, " +
    shareText(mean("hot")) + " are hot");
}

function showLive(now) {
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  const since = (name) => before ? now[name] - before[name] : 0;
  const tokens = since("generated_tokens");
  byId("live-speed").textContent = seconds > 0 ? (tokens / seconds).toFixed(1) : "-";
  // Of what was written since the last look where there is something, else of all so far.
  const recent = since("neurons") > 0;
  const neurons = recent ? since("neurons") : now.neurons;
  const active = recent ? since("neurons_active") : now.neurons_active;
  byId("live-fired").textContent = neurons > 0 ? shareText(active / neurons) : "-";
  byId("live-bytes").textContent = now.bytes_per_token > 0 ? sizeText(now.bytes_per_token) : "-";
  byId("live-bytes-of").textContent = now.dense_bytes_per_token > 0
    ? "read per token, of " + sizeText(now.dense_bytes_per_token) : "read per token";
  const asked = now.prompt_tokens + now.cached_tokens;
  byId("live-hits").textContent = asked > 0 ? shareText(now.cached_tokens / asked) : "-";
  byId("live-queue").textContent = now.sleeping ? "asleep" : now.running + ", " + now.waiting;
  const colours = ["var(--hot)", "var(--cold)", "#777"];
  bar("live-tiers", now.tiers.map((tier, i) => ({ label: tier.name + " " + sizeText(tier.bytes), value: tier.bytes,
    colour: colours[Math.min(i, 2)] })));
  bar("live-reads", now.tiers.map((tier, i) => ({ label: tier.name + " " + sizeText(tier.read_per_token),
    value: tier.read_per_token, colour: colours[Math.min(i, 2)] })));
  const batches = now.batch_layers_by_neuron + now.batch_layers_dense;
  byId("live-batches").textContent = batches > 0 ? shareText(now.batch_layers_by_neuron / batches) : "-";
  const unshared = now.kv_unshared_bytes;
  byId("live-shared").textContent = unshared > 0 ? shareText(1 - now.kv_read_bytes / unshared) : "-";
  const pages = now.pages.reduce((sum, each) => ({ total: sum.total + each.total, free: sum.free + each.free,
    kept: sum.kept + each.kept }), { total: 0, free: 0, kept: 0 });
  const used = pages.total - pages.free - pages.kept;
  bar("live-pages", [{ label: used + " in use", value: used, colour: "var(--hot)" },
    { label: pages.kept + " kept", value: pages.kept, colour: "var(--cold)" },
    { label: pages.free + " free", value: pages.free, colour: "#777" },
    { label: now.kv_host_pages + " in host memory", value: now.kv_host_pages, colour: "#555" }]);
  heat(now.layers);
  before = now;
}

async function look() {
  try {
    const response = await fetch("/live", { headers: headers() });
    if (response.ok) showLive(Object.assign(await response.json(), { at: performance.now() }));
  } catch { byId("live-speed").textContent = "-"; }
  timer = live.hidden ? null : setTimeout(look, 1000);
}

function showPanel(is) {
  live.hidden = !is;
  byId("show-live").setAttribute("aria-expanded", String(is));
  store.write("live", is);
  clearTimeout(timer);
  before = null;
  if (is) look();
}
byId("show-live").addEventListener("click", () => showPanel(live.hidden));
if (store.read("live", false)) showPanel(true);
