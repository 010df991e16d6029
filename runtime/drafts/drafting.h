// What a user asks for, made: the sources of drafts with their models, and the speculator that uses
// them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/drafts/model_draft.h"
#include "runtime/engine/engine.h"
#include "runtime/speculate/speculator.h"

namespace thermocline {

enum class DraftKind : uint8_t { kNone, kAuto, kNgram, kModel, kHot };

struct DraftOptions {
  DraftKind kind = DraftKind::kNone;  // kAuto: of all that there are the best, text by text
  std::string model_path;             // of a small model; empty: none
  // The model is opened with a draft of its hot neurons (FileOptions::draft_path); kAuto tries it,
  // too.
  bool hot = false;
  // Whether what models draft is extended by n-grams (ExtendedDraft).
  bool extend = true;
  SpeculateOptions speculate;
};

// Rows of a pass that drafts take at most, for so many texts at a time: what the engine is opened
// with (ContextOptions::drafted_rows).
int64_t DraftedRows(const DraftOptions& options, int64_t n_texts);

class Drafting {
 public:
  // Opens the draft's model before the model itself is loaded, which takes what memory is left.
  // Throws Error where the two do not go together. REQUIRES: options.kind is not kNone.
  Drafting(const DraftOptions& options, OpenedModel& model);

  // A source that needs the engine itself, which was made meanwhile; it goes before the others.
  // REQUIRES: speculator() was not called yet.
  void AddSource(std::unique_ptr<DraftSource> source);
  // The engine of that model, which drafts for itself where its hot neurons are to. Throws Error
  // where the draft does not go with it. REQUIRES: as AddSource.
  void Use(Engine& engine);
  size_t n_sources() const { return sources_.size(); }
  // The model that drafts; null: none does.
  const OpenedModel* draft_model() const { return draft_model_; }
  // For the engine of that model. REQUIRES: the engine was opened with DraftedRows.
  Speculator& speculator();
  // Another one of the same sources, for texts that are written in turn with those of the first.
  // REQUIRES: as speculator().
  std::unique_ptr<Speculator> MakeSpeculator(int64_t max_children, bool extend);
  bool extends() const { return extend_ && runs_model(); }
  // Whether a source is a model.
  bool runs_model() const { return draft_model_ != nullptr || hot_; }

 private:
  // What drafts, with or without extensions.
  struct Chosen {
    std::vector<std::unique_ptr<DraftSource>> extended;
    std::unique_ptr<DraftSource> among;  // several
    DraftSource* source = nullptr;       // null: not made yet
  };
  DraftSource& Source(bool extend);

  bool hot_ = false;
  bool extend_ = true;
  SpeculateOptions options_;
  int64_t vocab_size_;
  const OpenedModel* draft_model_ = nullptr;
  struct Made {
    std::unique_ptr<DraftSource> source;
    bool can_be_extended = true;
  };
  std::vector<Made> sources_;
  Chosen chosen_[2];  // by whether they are extended
  std::unique_ptr<Speculator> speculator_;
};

}  // namespace thermocline
