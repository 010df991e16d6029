#include "tools/pictures/html_page.h"

#include <fmt/format.h>

#include "runtime/core/atomic_file.h"
#include "runtime/core/error.h"
#include "tools/pictures/svg.h"

namespace thermocline {
namespace {

// Five colours that colour-blind eyes tell apart (after Okabe and Ito), deeper on white than on
// black; lines differ in their dashes, too, for print without colour.
constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --faint: #667; --rule: #d8dde3;
  --s1: #0067a6; --s2: #c75000; --s3: #00805f; --s4: #a8487f; --s5: #7a6a00; --heat: #b3361b; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e6e9ed; --faint: #9aa3ad; --rule: #343b43;
    --s1: #5bb8f0; --s2: #f2994a; --s3: #3fcf9f; --s4: #e08bbb; --s5: #d8c94a; --heat: #ff7a52; } }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 0.3rem; }
p { margin: 0.3rem 0 0.8rem; max-width: 44rem; }
figure { margin: 0; overflow-x: auto; }
svg { width: 100%; min-width: 34rem; height: auto; display: block; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .tick { fill: var(--faint); }
svg .middle { text-anchor: middle; }
svg .end { text-anchor: end; }
svg .grid { stroke: var(--rule); fill: none; }
svg .frame { stroke: var(--rule); fill: none; }
svg .line { fill: none; stroke-width: 2; }
svg .line.s1 { stroke: var(--s1); }
svg .line.s2 { stroke: var(--s2); stroke-dasharray: 9 3; }
svg .line.s3 { stroke: var(--s3); stroke-dasharray: 3 3; }
svg .line.s4 { stroke: var(--s4); stroke-dasharray: 10 3 2 3; }
svg .line.s5 { stroke: var(--s5); stroke-dasharray: 1 3; }
svg .line.reference { stroke: var(--faint); stroke-width: 1; }
svg .marker { fill: var(--ink); stroke: var(--paper); stroke-width: 1.5; }
svg .bar { stroke: var(--paper); stroke-width: 0.5; }
svg .bar.s1 { fill: var(--s1); }
svg .bar.s2 { fill: var(--s2); }
svg .bar.s3 { fill: var(--s3); }
svg .bar.s4 { fill: var(--s4); }
svg .bar.s5 { fill: var(--s5); }
svg .heat { fill: var(--heat); shape-rendering: crispEdges; }
.numbers { overflow-x: auto; margin-top: 0.6rem; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15rem 0.7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { color: var(--faint); font-weight: 600; }
@media print {
  :root { color-scheme: light; --paper: #fff; --ink: #000; --faint: #444; --rule: #bbb;
    --s1: #0067a6; --s2: #c75000; --s3: #00805f; --s4: #a8487f; --s5: #7a6a00; --heat: #b3361b; }
  body { max-width: none; padding: 0; font-size: 11pt; }
  figure { break-inside: avoid; }
  svg { min-width: 0; }
  tr { break-inside: avoid; }
  svg .bar, svg .heat { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
)";

std::string TableText(const HtmlTable& table) {
  std::string text = "<div class=\"numbers\"><table>\n<thead><tr>";
  for (const std::string& column : table.columns) {
    text += fmt::format("<th scope=\"col\">{}</th>", EscapeMarkup(column));
  }
  text += "</tr></thead>\n<tbody>\n";
  for (const std::vector<std::string>& row : table.rows) {
    CHECK(row.size() == table.columns.size());
    text += fmt::format("<tr><th scope=\"row\">{}</th>", EscapeMarkup(row.front()));
    for (size_t i = 1; i < row.size(); ++i) {
      text += fmt::format("<td>{}</td>", EscapeMarkup(row[i]));
    }
    text += "</tr>\n";
  }
  return text + "</tbody></table></div>\n";
}

std::string Heading(const std::string& heading, const std::string& text) {
  return fmt::format("<section>\n<h2>{}</h2>\n<p>{}</p>\n", EscapeMarkup(heading),
                     EscapeMarkup(text));
}

}  // namespace

HtmlPage::HtmlPage(const std::string& title, const std::string& lead)
    : title_(EscapeMarkup(title)),
      body_(fmt::format("<h1>{}</h1>\n<p>{}</p>\n", title_, EscapeMarkup(lead))) {}

void HtmlPage::AddPicture(const std::string& heading, const std::string& text,
                          const std::string& svg, const HtmlTable& numbers) {
  body_ += Heading(heading, text) + "<figure>\n" + svg + "</figure>\n" + TableText(numbers) +
           "</section>\n";
}

void HtmlPage::AddTable(const std::string& heading, const std::string& text,
                        const HtmlTable& table) {
  body_ += Heading(heading, text) + TableText(table) + "</section>\n";
}

std::string HtmlPage::Text() const {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n<main>\n{}</main>\n</body>\n</"
      "html>\n",
      title_, kStyle, body_);
}

void WritePage(const std::string& path, const HtmlPage& page) {
  AtomicFile file(path);
  const std::string text = page.Text();
  file.Write(text.data(), text.size());
  file.Commit();
}

}  // namespace thermocline
