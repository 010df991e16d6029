#include "tools/serve/metrics.h"

#include <fmt/format.h>

#include <algorithm>

namespace thermocline {
namespace {

// Names as tools that watch llama.cpp's server know them; what only this server has is ours.
std::string Line(const char* name, const char* type, const char* help, double value) {
  return fmt::format("# HELP {0} {2}\n# TYPE {0} {1}\n{0} {3:.12g}\n", name, type, help, value);
}

double Rate(int64_t n, double ms) {
  return n > 0 && ms > 0 ? static_cast<double>(n) * 1e3 / ms : 0;
}

double ToDouble(int64_t n) { return static_cast<double>(n); }

std::string Counters(const ScheduleStats& s) {
  std::string text;
  const auto counter = [&text](const char* name, const char* help, double value) {
    text += Line(name, "counter", help, value);
  };
  counter("llamacpp:prompt_tokens_total", "Tokens of prompts that were read.",
          ToDouble(s.prompt_tokens));
  counter("llamacpp:prompt_tokens_cached_total", "Tokens of prompts found in the cache.",
          ToDouble(s.cached_tokens));
  counter("llamacpp:prompt_seconds_total", "Time until prompts were read.", s.reading_ms / 1e3);
  counter("llamacpp:tokens_predicted_total", "Tokens that were written.",
          ToDouble(s.generated_tokens));
  counter("llamacpp:tokens_predicted_seconds_total", "Time that writing took.", s.writing_ms / 1e3);
  counter("llamacpp:n_decode_total", "Passes of the model.", ToDouble(s.n_passes));
  counter("llamacpp:n_tokens_max", "Tokens of the longest text.", ToDouble(s.longest_text));
  counter("llamacpp:spec_decode_num_draft_tokens_total", "Tokens of drafts that were verified.",
          ToDouble(s.speculation.n_drafted));
  counter("llamacpp:spec_decode_num_accepted_tokens_total", "Of them, those that were accepted.",
          ToDouble(s.speculation.n_accepted));
  counter("llamacpp:spec_decode_num_drafts_total", "Drafts that were verified.",
          ToDouble(s.speculation.n_drafts));
  return text;
}

std::string Own(const MetricsLook& look) {
  const ScheduleStats& s = look.stats;
  std::string text;
  const auto counter = [&text](const char* name, const char* help, double value) {
    text += Line(name, "counter", help, value);
  };
  const auto gauge = [&text](const char* name, const char* help, double value) {
    text += Line(name, "gauge", help, value);
  };
  counter("thermocline:requests_total", "Requests taken.", ToDouble(s.n_requests));
  counter("thermocline:requests_ended_total", "Requests that ended.", ToDouble(s.n_ended));
  counter("thermocline:requests_cancelled_total", "Requests that clients gave up.",
          ToDouble(s.n_cancelled));
  counter("thermocline:requests_failed_total", "Requests that failed.", ToDouble(s.n_failed));
  counter("thermocline:preemptions_total", "Texts that gave their pages to older ones.",
          ToDouble(s.n_preempted));
  counter("thermocline:context_shifts_total", "Contexts that were shifted.", ToDouble(s.n_shifted));
  counter("thermocline:prefix_pages_hit_total", "Pages that prompts found in the cache.",
          ToDouble(s.prefix_pages_hit));
  counter("thermocline:prefix_pages_missed_total", "Pages that prompts did not find.",
          ToDouble(s.prefix_pages_missed));
  counter("thermocline:draft_seconds_total", "Time that drafting took.",
          s.speculation.draft_ms / 1e3);
  counter("thermocline:verify_seconds_total", "Time of passes that verified drafts.",
          s.speculation.verify_ms / 1e3);
  counter("thermocline:draft_pauses_total", "Times that drafting did not pay for a text.",
          ToDouble(s.speculation.n_pauses));
  counter("thermocline:kv_read_bytes_total", "Keys and values that attention read.",
          ToDouble(s.kv_bytes.read));
  counter("thermocline:kv_unshared_bytes_total",
          "What it would have read if no two texts shared pages.", ToDouble(s.kv_bytes.unshared));
  counter("thermocline:tokens_again_total",
          "Tokens of texts that were sent away, which are fed again.", ToDouble(s.tokens_again));
  counter("thermocline:kv_host_pages_out_total", "Pages copied to the host's memory.",
          ToDouble(s.host_pages.n_out));
  counter("thermocline:kv_host_pages_back_total", "Pages that came back from there.",
          ToDouble(s.host_pages.n_back));
  gauge("thermocline:kv_host_bytes", "Pages that lie in the host's memory.",
        static_cast<double>(s.host_pages.bytes));
  const FfnCount neurons = s.neurons.Sum();
  counter("thermocline:neurons_total",
          "Neurons of all layers, for tokens whose neurons could be skipped one by one.",
          ToDouble(look.neurons));
  counter("thermocline:neuron_gates_total", "Of them, those whose gate was computed.",
          ToDouble(neurons.gates));
  counter("thermocline:neurons_active_total", "Of them, those that were computed whole.",
          ToDouble(neurons.active));
  counter("thermocline:batch_layers_by_neuron_total",
          "Layers of small batches that skipped neurons.",
          ToDouble(s.neurons.batch_layers_by_neuron));
  counter("thermocline:batch_layers_dense_total", "Layers of small batches that ran dense.",
          ToDouble(s.neurons.batch_layers_dense));
  gauge("thermocline:connections", "Open connections.", ToDouble(look.n_connections));
  for (size_t c = 0; c < s.pages.size(); ++c) {
    const PageCounts& pages = s.pages[c];
    if (c == 0)
      text +=
          "# HELP thermocline:kv_pages Pages of the KV cache, by class and state.\n"
          "# TYPE thermocline:kv_pages gauge\n";
    const auto line = [&](const char* state, int64_t n) {
      text += fmt::format("thermocline:kv_pages{{class=\"{}\",state=\"{}\"}} {}\n", c, state, n);
    };
    line("used", pages.n_pages - pages.n_free - pages.n_kept);
    line("kept", pages.n_kept);
    line("free", pages.n_free);
  }
  for (size_t t = 0; t < s.used_bytes.size(); ++t) {
    if (t == 0)
      text +=
          "# HELP thermocline:tier_bytes Bytes that a tier holds, fastest first.\n"
          "# TYPE thermocline:tier_bytes gauge\n";
    text += fmt::format("thermocline:tier_bytes{{tier=\"{}\"}} {}\n", t, s.used_bytes[t]);
  }
  return text;
}

}  // namespace

void Histogram::Add(double seconds) {
  const auto* const bound = std::lower_bound(kBoundsSeconds.begin(), kBoundsSeconds.end(), seconds);
  ++counts_[static_cast<size_t>(bound - kBoundsSeconds.begin())];
  sum_ += seconds;
}

std::string Histogram::Text(const std::string& name, const std::string& help) const {
  std::string text = fmt::format("# HELP {0} {1}\n# TYPE {0} histogram\n", name, help);
  int64_t n = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    n += counts_[i];
    const std::string bound =
        i < kBoundsSeconds.size() ? fmt::format("{}", kBoundsSeconds[i]) : "+Inf";
    text += fmt::format("{}_bucket{{le=\"{}\"}} {}\n", name, bound, n);
  }
  return text + fmt::format("{0}_sum {1:.9g}\n{0}_count {2}\n", name, sum_, n);
}

void Metrics::AddFirstToken(double seconds) {
  const std::lock_guard lock(mutex_);
  first_token_.Add(seconds);
}

void Metrics::AddInterToken(double seconds) {
  const std::lock_guard lock(mutex_);
  inter_token_.Add(seconds);
}

void Metrics::AddAnswer(int status) {
  const std::lock_guard lock(mutex_);
  ++answers_[static_cast<size_t>(std::clamp(status / 100, 0, 5))];
}

std::string Metrics::Text(const MetricsLook& look) {
  const ScheduleStats& stats = look.stats;
  const std::lock_guard lock(mutex_);
  std::string text = Counters(stats);
  const auto gauge = [&text](const char* name, const char* help, double value) {
    text += Line(name, "gauge", help, value);
  };
  gauge("llamacpp:prompt_tokens_seconds", "Tokens of prompts per second since the last look.",
        Rate(stats.prompt_tokens - last_.prompt_tokens, stats.reading_ms - last_.reading_ms));
  gauge("llamacpp:predicted_tokens_seconds", "Tokens written per second since the last look.",
        Rate(stats.written_tokens - last_.written_tokens, stats.writing_ms - last_.writing_ms));
  gauge("llamacpp:requests_processing", "Requests that run.", ToDouble(stats.n_running));
  gauge("llamacpp:requests_deferred", "Requests that wait.", ToDouble(stats.n_waiting));
  gauge("llamacpp:n_busy_slots_per_decode", "Texts in a pass, on average.",
        stats.n_passes > 0 ? ToDouble(stats.n_busy_slots) / ToDouble(stats.n_passes) : 0);
  text += Own(look);
  text += first_token_.Text("thermocline:time_to_first_token_seconds",
                            "From a request to its first token.");
  text += inter_token_.Text("thermocline:inter_token_seconds", "From token to token of a text.");
  text +=
      "# HELP thermocline:answers_total Answers, by class of status.\n"
      "# TYPE thermocline:answers_total counter\n";
  for (size_t digit = 1; digit < answers_.size(); ++digit) {
    text +=
        fmt::format("thermocline:answers_total{{status=\"{}xx\"}} {}\n", digit, answers_[digit]);
  }
  last_ = stats;
  return text;
}

}  // namespace thermocline
