// Prints the inspection as text. Everything printed came from a file, so control characters are
// escaped.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/core/size_text.h"
#include "tools/reports/inspect_file.h"

namespace thermocline {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxValueBytes = 90;
constexpr size_t kMaxReasonBytes = 1000;

std::string Bytes(const Json& n_bytes) { return FormatBytes(n_bytes.get<uint64_t>()); }

std::string CountText(uint64_t n) {
  if (n >= 1'000'000'000) return fmt::format("{:.2f} G", static_cast<double>(n) / 1e9);
  if (n >= 1'000'000) return fmt::format("{:.2f} M", static_cast<double>(n) / 1e6);
  return std::to_string(n);
}

// Returns a scalar, or the start of an array.
std::string ValueText(const Json& value) {
  if (value.is_string()) return Printable(value.get<std::string>(), kMaxValueBytes);
  if (!value.is_object()) return Printable(value.dump(), kMaxValueBytes);
  std::string text =
      fmt::format("{}[{}]", value["type"].get<std::string>(), value["count"].get<size_t>());
  for (const Json& element : value["first"]) {
    text += element.is_string() ? fmt::format(" '{}'", element.get<std::string>())
                                : fmt::format(" {}", element.dump());
  }
  if (value["first"].size() < value["count"].get<size_t>()) text += " ...";
  return Printable(text, kMaxValueBytes);
}

// Returns lines "  name    value", with the values in one column.
std::string Pairs(const Json& object) {
  size_t width = 0;
  for (const auto& item : object.items()) {
    width = std::max(width, std::min<size_t>(item.key().size(), 48));
  }
  std::string text;
  for (const auto& item : object.items()) {
    text += fmt::format("  {:<{}}  {}\n", Printable(item.key()), width, ValueText(item.value()));
  }
  return text;
}

std::string HeadText(const Json& in) {
  std::string text = fmt::format(
      "{}: {}\nGGUF v{}{}, {}, alignment {}, fingerprint {}\n",
      Printable(in["path"].get<std::string>(), 400), Printable(in["kind"].get<std::string>()),
      in["gguf_version"].get<uint32_t>(),
      in["container"] == "GGUF" ? "" : " in PowerInfer's container (PWRI)", Bytes(in["file_bytes"]),
      in["alignment"].get<uint64_t>(), in["fingerprint"].get<std::string>());
  if (in["files"].size() > 1) {
    text += fmt::format("{} files:\n", in["files"].size());
    for (const Json& file : in["files"]) {
      text += "  " + Printable(file.get<std::string>(), 400) + "\n";
    }
  }
  return text;
}

// Returns what windows leave of the KV cache, or "".
std::string WindowsText(const Json& classes) {
  std::string text;
  for (const Json& pages : classes) {
    const auto window = pages["window"].get<int64_t>();
    if (window == 0) continue;
    text += fmt::format(", of it {} in {} layers with a window of {}", Bytes(pages["bytes"]),
                        pages["n_layers"].get<int64_t>(), window);
  }
  return text;
}

std::string ModelText(Json model) {
  std::string verdict;
  if (!model["runs"].get<bool>()) {
    verdict = "this version cannot run it: " + model["reason"].get<std::string>() + "\n";
  } else {
    verdict = fmt::format(
        "this version runs it, by default {}; memory {} with a context of {} tokens (KV cache "
        "{}{})\n",
        model["default_mode"].get<std::string>(), Bytes(model["memory_bytes"]),
        model["context_tokens"].get<int64_t>(), Bytes(model["kv_bytes"]),
        WindowsText(model["kv_classes"]));
  }
  for (const char* key : {"runs", "reason", "default_mode", "context_tokens", "kv_bytes",
                          "kv_classes", "memory_bytes"}) {
    model.erase(key);
  }
  return "\nmodel\n" + Pairs(model) + verdict;
}

std::string PlacementText(const Json& placement) {
  const bool imported = placement["imported"].get<bool>();
  std::string text =
      imported ? fmt::format(
                     "\nplacement by PowerInfer; it names no model, so only layers and neurons can "
                     "be compared with one\nbudget: vram {}\n",
                     Bytes(placement["vram_budget_bytes"]))
               : fmt::format(
                     "\nplacement for the model with fingerprint {}\nbudgets: vram {}, ram {}\n",
                     Printable(placement["model_fingerprint"].get<std::string>()),
                     Bytes(placement["vram_budget_bytes"]), Bytes(placement["ram_budget_bytes"]));
  text += fmt::format("layer  neurons in vram      dram      nvme  (of {})\n",
                      placement["d_ff"].get<uint64_t>());
  size_t layer = 0;
  for (const Json& counts : placement["layer_neurons"]) {
    text += fmt::format("{:>5}{:>17}{:>10}{:>10}\n", layer++, counts["vram"].get<int64_t>(),
                        counts["dram"].get<int64_t>(), counts["nvme"].get<int64_t>());
  }
  return text;
}

// Returns the operating points of a layer in one line: recall at density.
std::string PredictorText(const Json& predictor) {
  std::string text = fmt::format(
      "\n{}predictor ({}, rank {}{}) for the model with fingerprint {}\n"
      "{} tokens to calibrate, {} to measure; {} read per token\n"
      "layer  true density  recall at density, in %\n",
      predictor["finished"].get<bool>() ? "" : "unfinished ",
      predictor["method"].get<std::string>(), predictor["rank"].get<int64_t>(),
      predictor["look_ahead"].get<bool>() ? ", from the layer before" : "",
      Printable(predictor["model_fingerprint"].get<std::string>()),
      predictor["calibration_tokens"].get<int64_t>(), predictor["heldout_tokens"].get<int64_t>(),
      Bytes(predictor["bytes_per_token"]));
  size_t number = 0;
  for (const Json& layer : predictor["layers"]) {
    text += fmt::format("{:>5}{:>12.2f} % ", number++, 100 * layer["true_density"].get<double>());
    for (const Json& point : layer["points"]) {
      text += fmt::format(" {:.1f}:{:.1f}", 100 * point["recall"].get<double>(),
                          100 * point["density"].get<double>());
    }
    text += "\n";
  }
  return text;
}

// Returns what each layer of a draft is made up of.
std::string DraftText(const Json& draft) {
  std::string text = fmt::format(
      "\ndraft for the model with fingerprint {}, neurons ranked by {}\n{} tokens to fit; on {} "
      "held-out positions {:.1f} % of drawn tokens accepted, {:.1f} % of likeliest ones the "
      "same\n{} "
      "of its own, rank {}, {}, {} matrices of attention and head in fewer bits\n"
      "layer       hot  left out  with stand-ins\n",
      Printable(draft["model_fingerprint"].get<std::string>()), draft["ranking"].get<std::string>(),
      draft["calibration_tokens"].get<int64_t>(), draft["heldout_tokens"].get<int64_t>(),
      100 * draft["acceptance"].get<double>(), 100 * draft["agreement"].get<double>(),
      Bytes(draft["own_bytes"]), draft["rank"].get<int64_t>(),
      draft["bias"].get<bool>() ? "biases" : "no biases", draft["n_replaced"].get<uint64_t>());
  size_t number = 0;
  for (const Json& layer : draft["layers"]) {
    text += fmt::format("{:>5}{:>10}{:>10} ", number++, layer["n_hot"].get<int64_t>(),
                        layer["n_left_out"].get<int64_t>());
    for (const Json& slice : layer["slices"]) {
      if (slice["type"].is_null()) continue;
      text += fmt::format(" {} in {}", slice["n_neurons"].get<int64_t>(),
                          slice["type"].get<std::string>());
    }
    text += "\n";
  }
  return text;
}

std::string VocabularyText(Json vocabulary) {
  std::string reason;
  if (vocabulary.contains("reason")) {
    reason = "this version cannot use it: " +
             Printable(vocabulary["reason"].get<std::string>(), kMaxReasonBytes) + "\n";
    vocabulary.erase("reason");
  }
  return "\nvocabulary\n" + Pairs(vocabulary) + reason;
}

std::string TensorsText(const Json& in) {
  const Json& tensors = in["tensors"];
  if (tensors.empty()) return "\nno tensors\n";
  size_t width = 0;
  for (const Json& tensor : tensors) {
    width =
        std::max(width, std::min<size_t>(tensor["name"].get_ref<const std::string&>().size(), 64));
  }
  std::string text = fmt::format("\ntensors ({}), {} parameters\n", tensors.size(),
                                 CountText(in["n_parameters"].get<uint64_t>()));
  for (const Json& tensor : tensors) {
    std::string dims;
    for (const Json& dim : tensor["dims"]) {
      dims += fmt::format("{}{}", dims.empty() ? "" : " x ", dim.get<uint64_t>());
    }
    text +=
        fmt::format("  {:<{}}  {:<8}{:>18}{:>14}{}\n", Printable(tensor["name"].get<std::string>()),
                    width, tensor["type"].get<std::string>(), dims, Bytes(tensor["bytes"]),
                    tensor.contains("tier") ? "  " + tensor["tier"].get<std::string>() : "");
  }
  text += "by type\n";
  for (const Json& type : in["types"]) {
    text += fmt::format("  {:<8}{:>6} tensors{:>14}\n", type["type"].get<std::string>(),
                        type["n_tensors"].get<uint64_t>(), Bytes(type["bytes"]));
  }
  return text;
}

}  // namespace

std::string InspectionText(const Json& in) {
  std::string text = HeadText(in);
  if (in.contains("model")) text += ModelText(in["model"]);
  if (in.contains("placement")) text += PlacementText(in["placement"]);
  if (in.contains("predictor")) text += PredictorText(in["predictor"]);
  if (in.contains("draft")) text += DraftText(in["draft"]);
  if (in.contains("vocabulary")) text += VocabularyText(in["vocabulary"]);
  text += fmt::format("\nmetadata ({} keys)\n", in["metadata"].size()) + Pairs(in["metadata"]);
  return text + TensorsText(in);
}

}  // namespace thermocline
