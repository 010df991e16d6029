#include "tools/reports/run_summary.h"

#include <fmt/format.h>

#include "runtime/core/available_memory.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/core/size_text.h"
#include "runtime/engine/touched_bytes.h"
#include "tools/reports/messages.h"
#include "tools/reports/stream_report.h"

namespace thermocline {
namespace {

double PerSecond(int64_t n, double ms) { return ms > 0 ? 1000.0 * static_cast<double>(n) / ms : 0; }

std::string StopText(const Engine& engine, StopReason stop) {
  switch (stop) {
    case StopReason::kEndOfText:
      return "the model ended the text";
    case StopReason::kTokenLimit:
      return "the limit -n was reached";
    case StopReason::kContextFull:
      return fmt::format("the context of {} tokens is full (this model allows -c up to {})",
                         engine.context_tokens(), engine.config().max_seq_len);
    case StopReason::kInterrupted:
      return TerminationSignal() == 0 ? "stopped by Ctrl-C" : "stopped by a request to terminate";
  }
  return "";
}

// What a user of a mode that changes the text should know.
std::string ThresholdNote(const OpenedModel& model) {
  const ThresholdChoice& choice = *model.threshold_choice();
  std::string text =
      "         thresholds change the text: score them on your own task first; reasoning suffers "
      "long before\n         perplexity shows it, and at half of the weights it is known to\n";
  if (!choice.by_gate() && choice.sparsity > 0 && !model.has_columns()) {
    text +=
        "         matrices lie by row, so that what is skipped is read all the same, but for down "
        "projections;\n         stored by column (--columns) it is not\n";
  }
  return text;
}

std::string ModeText(Engine& engine, int64_t decode_passes) {
  const OpenedModel& model = engine.model();
  const SparseMode mode = model.mode();
  std::string text =
      fmt::format("mode     {}, {} threads", SparseModeName(mode), model.n_threads());
  if (decode_passes == 0) return text + "\n";
  const TouchedBytes touched = TouchedPerToken(engine, engine.executor().counts(), mode);
  if (mode == SparseMode::kThreshold) {
    text += fmt::format(" {}, {:.1f} % of its weights skipped", model.options().sparse,
                        100 * touched.sparsity);
  }
  if (mode == SparseMode::kPredicted) {
    text += fmt::format(", {:.1f} % of the gates computed", 100 * touched.mean_gate_density);
  }
  if (mode != SparseMode::kDense && mode != SparseMode::kThreshold) {
    text += fmt::format(", FFN sparsity {:.1f} %", 100 * (1 - touched.mean_density));
  }
  text += fmt::format(", {} of weights read per token",
                      FormatBytes(static_cast<uint64_t>(touched.bytes)));
  if (mode != SparseMode::kDense) {
    text += fmt::format(" ({} dense)", FormatBytes(static_cast<uint64_t>(touched.dense_bytes)));
  }
  text += "\n";
  if (mode == SparseMode::kThreshold) text += ThresholdNote(model);
  if (model.predictor() != nullptr) {
    text += fmt::format("         predictor: {}\n", model.predictor()->Description());
  }
  return text;
}

// What the plan said and what was taken of it, by tier; beside it what the system counts.
std::string MemoryText(const Engine& engine) {
  const MemoryPlan plan = engine.model().Plan();
  const std::vector<uint64_t> used = engine.UsedBytes();
  std::string text = "memory  ";
  for (size_t tier = 0; tier < used.size(); ++tier) {
    text += fmt::format("{} {}: {} planned, {} used", tier > 0 ? ";" : "", plan.tiers[tier].name,
                        FormatBytes(plan.total_bytes(tier)), FormatBytes(used[tier]));
  }
  if (const auto peak = PeakResidentBytes()) {
    text += fmt::format("; at most {} resident", FormatBytes(*peak));
  }
  return text + "\n";
}

// What a token took beside what the placement was expected to take, where it says that.
std::string PredictionText(const Engine& engine, const Generation& g) {
  const Placement* placement = engine.model().placement();
  if (placement == nullptr || !placement->prediction || g.decode_passes == 0) return "";
  const PlacementPrediction& p = *placement->prediction;
  std::string text =
      fmt::format("placed   {:.3f} ms/token predicted, {:.3f} measured", p.ms_per_token,
                  g.decode_ms / static_cast<double>(g.decoded_tokens));
  const OpenedModel& model = engine.model();
  if (p.mode != SparseModeName(model.mode()) || p.n_threads != model.n_threads()) {
    text += fmt::format(" (predicted for mode {} and {} threads)", Printable(p.mode), p.n_threads);
  }
  return text + "\n";
}

}  // namespace

std::string RunSummaryText(Engine& engine, const RunSummary& summary) {
  const Generation& g = summary.generation;
  std::string text = fmt::format("\nload     {:.0f} ms\n", summary.load_ms);
  text += fmt::format("prompt   {} tokens, {:.1f} tok/s\n", g.prompt_tokens,
                      PerSecond(g.prompt_tokens, g.prefill_ms));
  // The first token comes with the prompt's pass; the rate counts passes of its own.
  text += fmt::format("decode   {} tokens, {:.1f} tok/s", g.generated_tokens,
                      PerSecond(g.decoded_tokens, g.decode_ms));
  text += summary.sampling.temperature == 0 ? ", greedy\n"
                                            : fmt::format(", seed {}\n", summary.sampling.seed);
  if (summary.speculator != nullptr) text += SpeculationText(*summary.speculator);
  text += ModeText(engine, g.decode_passes);
  text += MemoryText(engine);
  text += PredictionText(engine, g);
  const std::string adapt = AdaptText(engine);
  if (!adapt.empty()) text += "adapt    " + adapt + "\n";
  const std::string stream = StreamUseText(engine.executor().stream_use());
  if (!stream.empty()) text += "stream   " + stream + "\n";
  const std::string gpu_note = NoteText(engine.model().gpu_note());
  if (!gpu_note.empty()) text += "note     " + gpu_note + "\n";
  const double paced = engine.model().options().slow_tier_bytes_per_s;
  if (paced > 0) text += "note     " + SlowTierNote(paced) + "\n";
  if (summary.tell_stop) text += "ended    " + StopText(engine, g.stop) + "\n";
  const Placement* placement = engine.model().placement();
  if (placement != nullptr && placement->imported) {
    text += fmt::format("note     {}\n", kImportedPlacementNote);
  }
  if (engine.requant().requantised) {
    text += fmt::format(
        "note     {} were quantised a second time, to lie per neuron: relative RMS error {:.3f} "
        "%\n",
        engine.model().column_storage().attention ? "matrices" : "the down projections",
        100 * engine.requant().relative_rms_error);
  }
  return text;
}

std::string SpeculationText(const Speculator& speculator) {
  const SpeculateStats& s = speculator.stats();
  const auto per = [](double value, int64_t n) {
    return n > 0 ? value / static_cast<double>(n) : 0;
  };
  std::string text = fmt::format("draft    {}: ", speculator.source_name());
  if (s.n_drafts == 0) {
    text += "no token was drafted\n";
  } else {
    const int64_t n_written = s.n_written - s.n_plain;  // by passes that verified
    text += fmt::format(
        "{} tokens drafted, {} accepted ({:.0f} %), {:.2f} tokens per verifying pass\n",
        s.n_drafted, s.n_accepted, 100 * per(static_cast<double>(s.n_accepted), s.n_drafted),
        per(static_cast<double>(n_written), s.n_drafts));
    text += fmt::format(
        "         {:.2f} ms a token: {:.2f} ms to draft and {:.2f} ms to verify, by {} passes",
        per(s.draft_ms + s.verify_ms, n_written), per(s.draft_ms, s.n_verify_passes),
        per(s.verify_ms, s.n_verify_passes), s.n_verify_passes);
    text += fmt::format("; {:.2f} ms without a draft, by {}\n", per(s.plain_ms, s.n_plain_passes),
                        s.n_plain_passes);
  }
  if (s.n_empty > 0) {
    text += fmt::format("         there was nothing to draft, or nothing worth it, {} time{}\n",
                        s.n_empty, s.n_empty > 1 ? "s" : "");
  }
  if (s.n_pauses > 0) {
    text += fmt::format(
        "         it took more than it saved and was turned off for a while, {} time{}\n",
        s.n_pauses, s.n_pauses > 1 ? "s" : "");
  }
  if (!s.failure.empty()) text += fmt::format("         it ended: {}\n", s.failure);
  return text;
}

std::string AdaptText(Engine& engine) {
  const AdaptChoice& choice = engine.model().adapt();
  if (!choice.moves) {
    // Who has no placement need not be told.
    const bool told = engine.model().has_cold() && !choice.why_not.empty();
    return told ? "off: " + choice.why_not : "";
  }
  NeuronMover& mover = *engine.mover();
  mover.Settle();
  return fmt::format("{} neurons moved to the fast tier, and as many from it, in {} tokens",
                     mover.n_swaps(), mover.n_tokens());
}

std::string EngineDescription(const Engine& engine) {
  const KernelTable& kernels = CpuKernels();
  return fmt::format("kernels {} ({}), fingerprint {}, {} allocated beside the mapped file\n",
                     kernels.isa, kernels.features, engine.model().gguf().fingerprint(),
                     FormatBytes(engine.allocated_bytes()));
}

}  // namespace thermocline
