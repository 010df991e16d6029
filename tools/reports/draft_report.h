// What drafts of a model are accepted with, by what they are made up of.
#pragma once

#include <string>
#include <vector>

#include "profiler/drafts/draft_choice.h"
#include "profiler/drafts/draft_measure.h"
#include "tools/pictures/html_page.h"

namespace thermocline {

// Drafts measured on one text. `axis` is what they were asked for by: a share of the neurons'
// bytes, or of the neurons themselves.
struct DraftSeries {
  std::string text;  // its name
  bool by_bytes = true;
  std::vector<MeasuredDraft> drafts;  // in any order
};

// How deep chains are accepted, of one stand-in on one text.
struct DraftDepthSeries {
  std::string text;
  std::string draft;
  DraftDepth depth;
};

// A row per share, a column per stand-in: the share of drawn tokens that is accepted, and that of
// likeliest tokens that agree.
std::string DraftTable(const DraftSeries& series);
std::string DraftDepthTable(const std::vector<DraftDepthSeries>& series);
// The candidates of a draft that was chosen, best first.
std::string DraftCandidates(const std::vector<MeasuredDraft>& drafts, const std::string& ranking);

HtmlPage DraftPage(const std::string& model, const std::vector<DraftSeries>& series,
                   const std::vector<DraftDepthSeries>& depths);

}  // namespace thermocline
