// One self-contained HTML page: nothing is fetched and no script is needed to read it. Pictures
// have their numbers in a table below them.
#pragma once

#include <string>
#include <vector>

namespace thermocline {

struct HtmlTable {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  // each as long as the columns; the first is a name
};

class HtmlPage {
 public:
  // lead: what the page shows, in a sentence or two. All texts are escaped.
  HtmlPage(const std::string& title, const std::string& lead);

  // svg: as DrawLines and the others make it.
  void AddPicture(const std::string& heading, const std::string& text, const std::string& svg,
                  const HtmlTable& numbers);
  void AddTable(const std::string& heading, const std::string& text, const HtmlTable& table);

  // The whole page.
  std::string Text() const;

 private:
  std::string title_;
  std::string body_;
};

// Writes a page whole or not at all. Throws Error where the file cannot be written.
void WritePage(const std::string& path, const HtmlPage& page);

}  // namespace thermocline
