// What `bench serve` prints: a table, JSON, and a page with pictures.
#pragma once

#include <string>

#include "tools/bench/serve_replay.h"
#include "tools/pictures/html_page.h"

namespace thermocline {

struct ServeReport {
  std::string model;
  std::string url = {};  // of the server that was asked; empty: none was
  int n_threads = 0;
  ServeBounds bounds;
  ServeResult result;
};

std::string ServeTable(const ServeReport& report);
std::string ServeJson(const ServeReport& report);
HtmlPage ServePage(const ServeReport& report);

}  // namespace thermocline
