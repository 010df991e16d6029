// Markdown as elements. Nothing that a model writes is ever read as HTML: every text becomes a text
// node, and links lead only to http, https and mail.
const markdown = (() => {
  const safeLink = /^(https?:\/\/|mailto:)/i;

  const inlineRules = [
    [/^(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)/, (m) => make("code", { textContent: m[2] })],
    [/^\*\*(?=\S)([\s\S]*?\S)\*\*/, (m) => make("strong", {}, ...inline(m[1]))],
    [/^__(?=\S)([\s\S]*?\S)__/, (m) => make("strong", {}, ...inline(m[1]))],
    [/^~~(?=\S)([\s\S]*?\S)~~/, (m) => make("del", {}, ...inline(m[1]))],
    [/^\*(?=[^\s*])([\s\S]*?[^\s*])\*(?!\*)/, (m) => make("em", {}, ...inline(m[1]))],
    [/^\[([^\]\n]{1,500})\]\(([^\s()<>]{1,2000})\)/, (m) => link(m[2], inline(m[1]))],
    [/^https?:\/\/[^\s<>"')\]]{1,2000}/, (m) => link(m[0], [m[0]])],
  ];

  function link(target, children) {
    if (!safeLink.test(target)) return make("span", {}, ...children);
    return make("a", { href: target, target: "_blank", rel: "noopener noreferrer" }, ...children);
  }

  function inline(text) {
    const parts = [];
    let plain = "";
    let at = 0;
    while (at < text.length) {
      const next = text.slice(at).search(/[`*_~[\\]|https?:\/\//);
      if (next < 0) { plain += text.slice(at); break; }
      plain += text.slice(at, at + next);
      at += next;
      if (text[at] === "\\" && /[\\`*_~[\]()#>-]/.test(text[at + 1] || "")) { plain += text[at + 1]; at += 2; continue; }
      // A rule looks no farther than a paragraph's worth.
      const rest = text.slice(at, at + 4000);
      let found = null;
      for (const [pattern, build] of inlineRules) {
        const match = pattern.exec(rest);
        if (match) { found = [match, build]; break; }
      }
      if (!found) { plain += text[at]; at += 1; continue; }
      if (plain) parts.push(plain);
      plain = "";
      parts.push(found[1](found[0]));
      at += found[0][0].length;
    }
    if (plain) parts.push(plain);
    return parts;
  }

  function codeBlock(language, lines) {
    const text = lines.join("\n");
    const copy = make("button", { type: "button", textContent: "Copy", onclick: () => copyText(text, copy) });
    return make("div", { className: "block" }, make("div", {}, make("span", { textContent: language || "code" }), copy),
      make("pre", {}, make("code", { textContent: text })));
  }

  const isTable = (lines, i) => lines[i].includes("|") && i + 1 < lines.length &&
    /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/.test(lines[i + 1]) && lines[i + 1].includes("-");
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const listItem = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
  const startsBlock = (lines, i) => /^\s*(```|~~~)|^#{1,6}\s|^\s*>|^\s*([-*_])(\s*\2){2,}\s*$/.test(lines[i]) ||
    listItem.test(lines[i]) || isTable(lines, i);

  function table(lines, i) {
    const row = (tag, line) => make("tr", {}, ...cells(line).map((cell) => make(tag, {}, ...inline(cell))));
    const body = make("tbody");
    let at = i + 2;
    while (at < lines.length && lines[at].includes("|")) body.append(row("td", lines[at++]));
    return [make("table", {}, make("thead", {}, row("th", lines[i])), body), at];
  }

  function list(lines, i, depth) {
    const [, indent, mark] = listItem.exec(lines[i]);
    const ordered = /\d/.test(mark);
    const element = make(ordered ? "ol" : "ul");
    if (ordered) element.start = parseInt(mark, 10);
    let at = i;
    while (at < lines.length) {
      const match = listItem.exec(lines[at]);
      if (!match || match[1].length < indent.length || /\d/.test(match[2]) !== ordered) break;
      const inner = [match[3]];
      at += 1;
      const deeper = indent.length + 2;
      while (at < lines.length && (lines[at].trim() === "" || lines[at].search(/\S/) >= deeper)) {
        if (lines[at].trim() === "" && !(at + 1 < lines.length && lines[at + 1].search(/\S/) >= deeper)) break;
        inner.push(lines[at].slice(Math.min(deeper, Math.max(0, lines[at].search(/\S/)))));
        at += 1;
      }
      const item = make("li");
      if (inner.length === 1) item.append(...inline(inner[0]));
      else item.append(...blocks(inner, depth + 1));
      element.append(item);
      if (at < lines.length && lines[at].trim() === "" && at + 1 < lines.length && listItem.test(lines[at + 1])) at += 1;
    }
    return [element, at];
  }

  function blocks(lines, depth) {
    const out = [];
    let i = 0;
    if (depth > 8) return [make("p", { textContent: lines.join("\n") })];
    while (i < lines.length) {
      const line = lines[i];
      const fence = /^\s*(```+|~~~+)\s*([\w+#.-]*)/.exec(line);
      const heading = /^(#{1,6})\s+(.*?)\s*#*$/.exec(line);
      if (line.trim() === "") { i += 1; continue; }
      if (fence) {
        const inner = [];
        i += 1;
        while (i < lines.length && !lines[i].trim().startsWith(fence[1])) inner.push(lines[i++]);
        i += 1;
        out.push(codeBlock(fence[2], inner));
      } else if (heading) {
        out.push(make("h" + Math.min(4, heading[1].length + 1), {}, ...inline(heading[2])));
        i += 1;
      } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
        out.push(make("hr"));
        i += 1;
      } else if (/^\s*>/.test(line)) {
        const inner = [];
        while (i < lines.length && /^\s*>/.test(lines[i])) inner.push(lines[i++].replace(/^\s*> ?/, ""));
        out.push(make("blockquote", {}, ...blocks(inner, depth + 1)));
      } else if (isTable(lines, i)) {
        const [element, next] = table(lines, i);
        out.push(element);
        i = next;
      } else if (listItem.test(line)) {
        const [element, next] = list(lines, i, depth);
        out.push(element);
        i = next;
      } else {
        const inner = [line];
        i += 1;
        while (i < lines.length && lines[i].trim() !== "" && !startsBlock(lines, i)) inner.push(lines[i++]);
        out.push(make("p", {}, ...inline(inner.join("\n"))));
      }
    }
    return out;
  }

  return (text) => blocks(text.split("\n"), 0);
})();

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1200);
}
