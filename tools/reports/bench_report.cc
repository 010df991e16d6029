#include "tools/reports/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/core/size_text.h"
#include "tools/reports/messages.h"
#include "tools/reports/stream_report.h"

namespace thermocline {
namespace {

std::string SpreadText(const Spread& spread) {
  const int digits = spread.median < 100 ? 1 : 0;
  return fmt::format("{:.{}f} ({:.{}f}-{:.{}f})", spread.median, digits, spread.p10, digits,
                     spread.p90, digits);
}

// Returns the bytes read per second in decode over the bandwidth measured just before, prompt by
// prompt.
Spread BandwidthShare(const BenchReport& report, const ModeResult& mode) {
  std::vector<double> shares;
  for (size_t p = 0; p < report.bandwidths.size(); ++p) {
    shares.push_back(mode.decode_speeds[p] * mode.touched.bytes / report.bandwidths[p]);
  }
  return SpreadOf(shares);
}

std::string TokensText(const ModeResult& mode) {
  if (mode.tokens_compared == 0) return "baseline";
  return fmt::format("{}/{}", mode.tokens_identical, mode.tokens_compared);
}

// Returns a column per mode, like the tables above it.
std::string ParallelTable(const std::vector<ParallelResult>& results) {
  std::string text =
      fmt::format("\n{} sequences in one pass, in turn with one\n", results.front().n_sequences);
  const auto row = [&](const std::string& label, const auto& cell) {
    text += fmt::format("{:<26}", label);
    for (const ParallelResult& result : results) text += fmt::format("{:>24}", cell(result));
    text += "\n";
  };
  row("one: decode tokens/s",
      [](const ParallelResult& r) { return SpreadText(r.one_tokens_per_s); });
  row("all: decode tokens/s",
      [](const ParallelResult& r) { return SpreadText(r.all_tokens_per_s); });
  row("  per sequence", [](const ParallelResult& r) {
    return fmt::format("{:.1f}", r.all_tokens_per_s.median / static_cast<double>(r.n_sequences));
  });
  row("  times one", [](const ParallelResult& r) {
    return fmt::format("{:.2f} ({:.2f}-{:.2f})", r.times_one.median, r.times_one.p10,
                       r.times_one.p90);
  });
  row("tokens as when alone", [](const ParallelResult& r) {
    return fmt::format("{}/{}", r.tokens_identical, r.tokens_compared);
  });
  for (const ParallelResult& result : results) {
    for (const float margin : result.first_difference_margins) {
      text += fmt::format(
          "{}: a text among others parts from the one alone where its best token "
          "leads by {:.3g}\n",
          SparseModeName(result.mode), margin);
    }
  }
  return text;
}

double PerOne(double sum, int64_t n) { return n > 0 ? sum / static_cast<double>(n) : 0; }

std::string WayName(const SpeculationResult& r) {
  const std::string mode(SparseModeName(r.mode));
  return r.width == 1 ? mode + ", chains" : fmt::format("{}, trees (width {})", mode, r.width);
}

// Returns a column per mode, and of each for chains and for trees.
std::string SpeculationTable(const std::vector<SpeculationResult>& results) {
  std::string text = "\ndrafts, in turn with plain decoding\n";
  const auto row = [&](const std::string& label, const auto& cell) {
    text += fmt::format("{:<26}", label);
    for (const SpeculationResult& result : results) text += fmt::format("{:>24}", cell(result));
    text += "\n";
  };
  using Result = SpeculationResult;
  row("", WayName);
  row("drafted by", [](const Result& r) { return r.source; });
  row("plain: decode tokens/s", [](const Result& r) { return SpreadText(r.plain_tokens_per_s); });
  row("drafted: decode tokens/s", [](const Result& r) { return SpreadText(r.tokens_per_s); });
  row("  times plain", [](const Result& r) {
    return fmt::format("{:.2f} ({:.2f}-{:.2f})", r.speed_up.median, r.speed_up.p10, r.speed_up.p90);
  });
  row("tokens drafted", [](const Result& r) { return std::to_string(r.stats.n_drafted); });
  row("  accepted", [](const Result& r) {
    return fmt::format("{} ({:.0f} %)", r.stats.n_accepted,
                       100 * PerOne(static_cast<double>(r.stats.n_accepted), r.stats.n_drafted));
  });
  row("tokens per verifying pass", [](const Result& r) {
    return fmt::format("{:.2f}", PerOne(static_cast<double>(r.stats.n_written - r.stats.n_plain),
                                        r.stats.n_drafts));
  });
  row("accepted of a draft", [](const Result& r) {
    return fmt::format("{:.2f}", PerOne(static_cast<double>(r.stats.n_accepted), r.stats.n_drafts));
  });
  row("verifying / plain passes", [](const Result& r) {
    return fmt::format("{} / {}", r.stats.n_verify_passes, r.stats.n_plain_passes);
  });
  row("ms to draft", [](const Result& r) {
    return fmt::format("{:.2f}", PerOne(r.stats.draft_ms, r.stats.n_verify_passes));
  });
  row("  passes of a model", [](const Result& r) {
    return fmt::format(
        "{:.2f}", PerOne(static_cast<double>(r.stats.n_draft_passes), r.stats.n_verify_passes));
  });
  row("ms to verify", [](const Result& r) {
    return fmt::format("{:.2f}", PerOne(r.stats.verify_ms, r.stats.n_verify_passes));
  });
  row("ms of a plain pass", [](const Result& r) {
    return fmt::format("{:.2f}", PerOne(r.stats.plain_ms, r.stats.n_plain_passes));
  });
  row("times turned off", [](const Result& r) { return std::to_string(r.stats.n_pauses); });
  row("tokens as without",
      [](const Result& r) { return fmt::format("{}/{}", r.tokens_identical, r.tokens_compared); });
  for (const Result& result : results) {
    for (const float margin : result.first_difference_margins) {
      text +=
          fmt::format("{}: a text parts from the plain one where the best token leads by {:.3g}\n",
                      WayName(result), margin);
    }
    if (!result.stats.failure.empty()) {
      text += fmt::format("{}: drafting ended: {}\n", WayName(result), result.stats.failure);
    }
  }
  return text;
}

nlohmann::ordered_json SpreadJson(const Spread& s) {
  return {{"median", s.median}, {"p10", s.p10}, {"p90", s.p90}};
}

nlohmann::ordered_json ParallelJson(const ParallelResult& r) {
  return {{"mode", SparseModeName(r.mode)},
          {"sequences", r.n_sequences},
          {"one_tokens_per_s", SpreadJson(r.one_tokens_per_s)},
          {"all_tokens_per_s", SpreadJson(r.all_tokens_per_s)},
          {"times_one", SpreadJson(r.times_one)},
          {"tokens_compared", r.tokens_compared},
          {"tokens_identical", r.tokens_identical},
          {"first_difference_margins", r.first_difference_margins}};
}

nlohmann::ordered_json SpeculationJson(const SpeculationResult& r) {
  const SpeculateStats& s = r.stats;
  return {{"mode", SparseModeName(r.mode)},
          {"source", r.source},
          {"width", r.width},
          {"plain_tokens_per_s", SpreadJson(r.plain_tokens_per_s)},
          {"tokens_per_s", SpreadJson(r.tokens_per_s)},
          {"speed_up", SpreadJson(r.speed_up)},
          {"drafted", s.n_drafted},
          {"accepted", s.n_accepted},
          {"drafts", s.n_drafts},
          {"tokens_per_verifying_pass",
           PerOne(static_cast<double>(s.n_written - s.n_plain), s.n_drafts)},
          {"verifying_passes", s.n_verify_passes},
          {"plain_passes", s.n_plain_passes},
          {"draft_ms", PerOne(s.draft_ms, s.n_verify_passes)},
          {"draft_passes", s.n_draft_passes},
          {"verify_ms", PerOne(s.verify_ms, s.n_verify_passes)},
          {"plain_ms", PerOne(s.plain_ms, s.n_plain_passes)},
          {"turned_off", s.n_pauses},
          {"tokens_compared", r.tokens_compared},
          {"tokens_identical", r.tokens_identical},
          {"first_difference_margins", r.first_difference_margins}};
}

nlohmann::ordered_json ShareJson(const std::optional<double>& share) {
  return share ? nlohmann::ordered_json(*share) : nlohmann::ordered_json(nullptr);
}

nlohmann::ordered_json ModeJson(const ModeResult& m, const Spread& share) {
  using Json = nlohmann::ordered_json;
  return {{"mode", SparseModeName(m.mode)},
          {"prefill_tokens_per_s", SpreadJson(m.prefill_tokens_per_s)},
          {"decode_tokens_per_s", SpreadJson(m.decode_tokens_per_s)},
          {"decode_speed_up", SpreadJson(m.speed_up)},
          {"speed_up_bound_by_bytes", m.byte_bound},
          {"touched_bytes_per_token", m.touched.bytes},
          {"dense_bytes_per_token", m.touched.dense_bytes},
          {"read_bytes_per_s", m.read_bytes_per_s},
          {"share_of_read_bandwidth", SpreadJson(share)},
          {"ffn_sparsity", 1 - m.touched.mean_density},
          {"threshold_sparsity", m.touched.sparsity},
          {"threshold_sparsity_of",
           {{"attention", ShareJson(m.touched.skipped.attention)},
            {"gate_up", ShareJson(m.touched.skipped.gate_up)},
            {"down", ShareJson(m.touched.skipped.down)}}},
          {"gates_computed", m.touched.mean_gate_density},
          {"recall", m.recall < 0 ? Json(nullptr) : Json(m.recall)},
          {"followed_the_baseline", m.followed},
          {"tokens_compared", m.tokens_compared},
          {"tokens_identical", m.tokens_identical},
          {"mean_kl_nats", m.mean_kl},
          {"first_difference_margins", m.first_difference_margins}};
}

}  // namespace

std::string BenchTable(const BenchReport& report) {
  std::string text = fmt::format(
      "model {}, {} threads, {}\n", report.model, report.n_threads,
      report.two_tiers ? fmt::format("{:.0f} % of the neurons hot", 100 * report.hot_share)
                       : "one tier");
  const auto row = [&](const std::string& label, const auto& cell) {
    text += fmt::format("{:<26}", label);
    for (const ModeResult& mode : report.modes) text += fmt::format("{:>24}", cell(mode));
    text += "\n";
  };
  row("", [](const ModeResult& m) { return std::string(SparseModeName(m.mode)); });
  row("prefill tokens/s", [](const ModeResult& m) { return SpreadText(m.prefill_tokens_per_s); });
  row("decode tokens/s", [](const ModeResult& m) { return SpreadText(m.decode_tokens_per_s); });
  row("decode speed-up", [](const ModeResult& m) {
    return fmt::format("{:.2f} ({:.2f}-{:.2f})", m.speed_up.median, m.speed_up.p10, m.speed_up.p90);
  });
  row("  bound by the bytes",
      [](const ModeResult& m) { return fmt::format("{:.2f}", m.byte_bound); });
  row("weights touched per token", [](const ModeResult& m) {
    return fmt::format("{} ({:.0f} %)", FormatBytes(static_cast<uint64_t>(m.touched.bytes)),
                       100 * m.touched.bytes / m.touched.dense_bytes);
  });
  row("weights read, GB/s",
      [](const ModeResult& m) { return fmt::format("{:.2f}", m.read_bytes_per_s / 1e9); });
  if (!report.bandwidths.empty()) {
    row("  of the read bandwidth", [&](const ModeResult& m) {
      const Spread share = BandwidthShare(report, m);
      return fmt::format("{:.0f} % ({:.0f}-{:.0f})", 100 * share.median, 100 * share.p10,
                         100 * share.p90);
    });
  }
  row("FFN neurons skipped", [](const ModeResult& m) {
    return fmt::format("{:.1f} %", 100 * (1 - m.touched.mean_density));
  });
  if (report.modes.back().mode == SparseMode::kThreshold) {
    row("weights below thresholds",
        [](const ModeResult& m) { return fmt::format("{:.1f} %", 100 * m.touched.sparsity); });
    using Shares = ModelCuts::PartShares;
    for (const auto& [label, part] : {std::pair{"  of attention", &Shares::attention},
                                      {"  of gate and up", &Shares::gate_up},
                                      {"  of down", &Shares::down}}) {
      if (!(report.modes.back().touched.skipped.*part)) continue;
      row(label, [part = part](const ModeResult& m) {
        const std::optional<double>& share = m.touched.skipped.*part;
        return share ? fmt::format("{:.1f} %", 100 * *share) : std::string("-");
      });
    }
  }
  const bool predicted =
      std::ranges::any_of(report.modes, [](const auto& m) { return m.recall >= 0; });
  if (predicted) {
    row("gates computed", [](const ModeResult& m) {
      return fmt::format("{:.1f} %", 100 * m.touched.mean_gate_density);
    });
    row("recall of the predictor", [](const ModeResult& m) {
      return m.recall < 0 ? std::string("-") : fmt::format("{:.1f} %", 100 * m.recall);
    });
  }
  row("tokens identical", TokensText);
  row("mean KL to the baseline", [](const ModeResult& m) {
    return m.tokens_compared == 0 ? std::string("baseline") : fmt::format("{:.2e} nats", m.mean_kl);
  });
  if (!report.bandwidths.empty()) {
    text += fmt::format(
        "read bandwidth measured between the prompts: {:.1f} GB/s (median) on {} threads\n",
        SpreadOf(report.bandwidths).median / 1e9, report.n_threads);
  }
  if (report.requant_error >= 0) {
    text += fmt::format(
        "the stock file's down projections were re-quantised per neuron: relative RMS error "
        "{:.2e}\n",
        report.requant_error);
  }
  if (!report.predictor.empty()) {
    text += fmt::format(
        "predictor: {}\npredicted was fed the tokens of dense, so each of its tokens is compared\n",
        report.predictor);
  }
  if (!report.gpu_note.empty()) text += report.gpu_note + "\n";
  if (report.slow_tier_bytes_per_s > 0) text += SlowTierNote(report.slow_tier_bytes_per_s) + "\n";
  const std::string stream = StreamUseText(report.stream);
  if (!stream.empty()) text += stream + "\n";
  if (!report.adapt.empty()) text += "adapt: " + report.adapt + "\n";
  if (!report.mode_note.empty()) text += report.mode_note + "\n";
  for (const ModeResult& mode : report.modes) {
    for (const float margin : mode.first_difference_margins) {
      text += fmt::format("{} parts from the baseline where its best token leads by {:.3g}\n",
                          SparseModeName(mode.mode), margin);
    }
  }
  for (const Roofline& roofline : report.rooflines) text += RooflineTable(roofline);
  for (const LayerTimes& times : report.layer_times) text += LayerTimesTable(times);
  for (const PassReport& steps : report.steps) text += PassTable(steps);
  if (!report.parallel.empty()) text += ParallelTable(report.parallel);
  if (!report.speculation.empty()) text += SpeculationTable(report.speculation);
  for (const DraftingComparison& both : report.drafting) text += DraftingComparisonTable(both);
  return text;
}

std::string BenchJson(const BenchReport& report) {
  nlohmann::ordered_json json = {{"model", report.model},
                                 {"threads", report.n_threads},
                                 {"two_tiers", report.two_tiers},
                                 {"hot_share", report.hot_share},
                                 {"read_bandwidth_bytes_per_s", SpreadOf(report.bandwidths).median},
                                 {"modes", nlohmann::ordered_json::array()}};
  if (!report.predictor.empty()) json["predictor"] = report.predictor;
  if (report.requant_error >= 0) json["requantisation_relative_rms_error"] = report.requant_error;
  if (report.slow_tier_bytes_per_s > 0) {
    json["slow_tier_limit_bytes_per_s"] = report.slow_tier_bytes_per_s;
  }
  if (report.stream.possible) json["cold_neurons_of_prompts"] = StreamUseJson(report.stream);
  for (const ModeResult& mode : report.modes)
    json["modes"].push_back(ModeJson(mode, BandwidthShare(report, mode)));
  for (const Roofline& roofline : report.rooflines) {
    json["rooflines"].push_back(RooflineJson(roofline));
  }
  for (const LayerTimes& times : report.layer_times) {
    json["layer_times"].push_back(LayerTimesJson(times));
  }
  for (const PassReport& steps : report.steps) json["steps"].push_back(PassJson(steps));
  for (const ParallelResult& result : report.parallel) {
    json["parallel"].push_back(ParallelJson(result));
  }
  for (const SpeculationResult& result : report.speculation) {
    json["speculation"].push_back(SpeculationJson(result));
  }
  for (const DraftingComparison& both : report.drafting) {
    json["drafting"].push_back(DraftingComparisonJson(both));
  }
  return json.dump(2) + "\n";
}

std::string BenchCsv(const BenchReport& report) {
  std::string text =
      "mode,prefill_tokens_per_s,decode_tokens_per_s,decode_p10,decode_p90,speed_up,speed_up_bound,"
      "touched_bytes_per_token,read_bytes_per_s,read_bandwidth_bytes_per_s,ffn_sparsity,"
      "gates_computed,recall,tokens_identical,tokens_compared,mean_kl_nats\n";
  for (const ModeResult& m : report.modes) {
    text += fmt::format(
        "{},{:.3f},{:.3f},{:.3f},{:.3f},{:.4f},{:.4f},{:.0f},{:.0f},{:.0f},{:.5f},{:.5f},{},{},{},"
        "{:.6e}\n",
        SparseModeName(m.mode), m.prefill_tokens_per_s.median, m.decode_tokens_per_s.median,
        m.decode_tokens_per_s.p10, m.decode_tokens_per_s.p90, m.speed_up.median, m.byte_bound,
        m.touched.bytes, m.read_bytes_per_s, SpreadOf(report.bandwidths).median,
        1 - m.touched.mean_density, m.touched.mean_gate_density,
        m.recall < 0 ? "" : fmt::format("{:.5f}", m.recall), m.tokens_identical, m.tokens_compared,
        m.mean_kl);
  }
  return text;
}

}  // namespace thermocline
