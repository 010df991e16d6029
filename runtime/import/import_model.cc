#include "runtime/import/import_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "runtime/gguf/gguf_writer.h"
#include "runtime/import/config_keys.h"
#include "runtime/import/hf_config.h"
#include "runtime/import/imported_tensor.h"
#include "runtime/import/imported_vocabulary.h"
#include "runtime/import/sampling_keys.h"
#include "runtime/safetensors/safetensors.h"

namespace thermocline {
namespace {

// "8.0B": how a model's size is written in its name.
std::string SizeLabel(uint64_t n_weights) {
  struct Unit {
    double weights;
    const char* name;
  };
  constexpr Unit kUnits[] = {{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "K"}};
  const auto number = static_cast<double>(n_weights);
  const Unit* unit =
      std::ranges::find_if(kUnits, [&](const Unit& u) { return number > u.weights; });
  if (unit == std::end(kUnits)) unit = std::end(kUnits) - 1;
  const double scaled = number / unit->weights;
  const std::string whole = fmt::format("{:.0f}", scaled);
  return fmt::format("{:.{}f}{}", scaled, whole.size() >= 2 || whole == "0" ? 0 : 1, unit->name);
}

std::string NameOfDirectory(const std::string& directory) {
  std::filesystem::path path = std::filesystem::absolute(directory).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  return path.filename().string();
}

class Importer {
 public:
  Importer(const std::string& directory, const ImportOptions& options)
      : directory_(directory),
        options_(options),
        config_(HfConfig::Read(directory)),
        family_(FindHfImport(config_)),
        imported_(MapConfig(family_, WithDefaults())),
        heads_(HeadLayoutOf(family_, config_)),
        model_(directory) {
    report_.architecture = family_.architecture;
    ReadVocabulary();
    tensors_ = MapTensors(family_, config_, model_);
    PlaceComputed();
    PlanChanges();
    for (const std::string& note : imported_.notes) report_.notes.push_back({.text = note});
  }

  ImportReport report() const { return report_; }

  ImportReport Write(const std::string& output) {
    CheckOutput(output);
    GgufWriter writer(output);
    for (const auto& [key, value] : AllKeys()) writer.Set(key, value);
    uint64_t total_bytes = 0;
    for (size_t i = 0; i < tensors_.size(); ++i) {
      writer.DeclareTensor(tensors_[i].name, report_.changes[i].to, tensors_[i].dims);
      total_bytes += report_.changes[i].to_bytes;
    }
    TensorCopier copier(writer, total_bytes, options_.n_threads, "converting (MiB)",
                        options_.progress);
    for (size_t i = 0; i < tensors_.size(); ++i) {
      WriteTensor(tensors_[i], &report_.changes[i], copier);
    }
    writer.Finish();
    return report_;
  }

 private:
  const HfConfig& WithDefaults() {
    config_.AddDefaults(family_.defaults);
    return config_;
  }

  void ReadVocabulary() {
    VocabularyOptions options{.pretokenizer = options_.pretokenizer,
                              .add_space_prefix = family_.add_space_prefix};
    options.vocab_size = config_.GetInt("vocab_size", 1, 1 << 24);
    vocabulary_ = ReadHfVocabulary(directory_, options);
    if (!vocabulary_) {
      report_.notes.push_back(
          {.text = "the directory has no tokenizer: the model gets no vocabulary, and works on ids "
                   "of tokens only"});
      return;
    }
    report_.vocabulary =
        fmt::format("{}{}, {} tokens", vocabulary_->model,
                    vocabulary_->model == "gpt2" ? fmt::format(" ({})", vocabulary_->pre) : "",
                    vocabulary_->tokens.size());
    if (vocabulary_->templates.empty()) {
      report_.notes.push_back({.text = "the directory has no chat template"});
    }
  }

  // Puts what the config gave behind the embeddings, where readers of other tools expect it.
  void PlaceComputed() {
    const auto first_layer = std::ranges::find_if(
        tensors_, [](const ImportedTensor& tensor) { return tensor.name.starts_with("blk."); });
    tensors_.insert(first_layer, imported_.tensors.begin(), imported_.tensors.end());
  }

  void PlanChanges() {
    std::vector<GgufTensorInfo> infos;
    for (const ImportedTensor& tensor : tensors_) {
      infos.push_back({.name = tensor.name, .dtype = tensor.stored_dtype(), .dims = tensor.dims});
      infos.back().n_elements = static_cast<uint64_t>(tensor.rows() * tensor.cols());
    }
    std::optional<TypeChooser> chooser;
    if (options_.rule) chooser.emplace(directory_, infos, *options_.rule);
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const ImportedTensor& tensor = tensors_[i];
      TensorChange change{.name = tensor.name, .from = infos[i].dtype, .to = infos[i].dtype};
      change.from_name = tensor.from_name();
      if (chooser && tensor.has_free_type()) {
        change.to = chooser->TypeOf(infos[i]);
        change.unfit = chooser->Unfit(tensor.name, infos[i].cols(), change.to);
      }
      change.from_bytes = tensor.source == nullptr ? 0 : tensor.source->n_bytes;
      change.to_bytes = static_cast<uint64_t>(tensor.rows() * RowBytes(change.to, tensor.cols()));
      n_weights_ += infos[i].n_elements;
      report_.changes.push_back(std::move(change));
    }
  }

  // The type that most of the weights have.
  uint32_t FileType() const {
    if (options_.rule) return options_.rule->file_type();
    std::map<DType, uint64_t> bytes;
    for (size_t i = 0; i < tensors_.size(); ++i) {
      if (tensors_[i].has_free_type()) bytes[report_.changes[i].to] += report_.changes[i].to_bytes;
    }
    if (bytes.empty()) return GetWeightTypeInfo(DType::kF32).file_type;
    const auto most =
        std::ranges::max_element(bytes, {}, [](const auto& one) { return one.second; });
    return GetWeightTypeInfo(most->first).file_type;
  }

  GgufKeys AllKeys() const {
    GgufKeys keys;
    const auto text = [&](const char* key, std::string value) {
      keys.emplace_back(key, GgufValue::string(std::move(value)));
    };
    text("general.architecture", std::string(family_.architecture));
    text("general.type", "model");
    text("general.name", options_.name.empty() ? NameOfDirectory(directory_) : options_.name);
    text("general.size_label", SizeLabel(n_weights_));
    keys.emplace_back("general.file_type", GgufValue::u32(FileType()));
    keys.emplace_back("general.quantization_version", GgufValue::u32(2));
    for (GgufKeys part : {SamplingKeys(directory_), imported_.keys}) {
      std::ranges::move(part, std::back_inserter(keys));
    }
    const auto embedding = std::ranges::find(tensors_, "token_embd.weight", &ImportedTensor::name);
    if (embedding != tensors_.end()) {
      keys.emplace_back(std::string(family_.architecture) + ".vocab_size",
                        GgufValue::u32(static_cast<uint32_t>(embedding->rows())));
    }
    if (family_.architecture == "falcon") {
      text("falcon.tensor_data_layout", "jploski");  // how others call q, k and v apart
    }
    if (vocabulary_) {
      std::ranges::move(VocabularyKeys(*vocabulary_), std::back_inserter(keys));
    } else {
      text("tokenizer.ggml.model", "no_vocab");
    }
    return keys;
  }

  void CheckOutput(const std::string& output) const {
    std::error_code ignored;
    for (const MappedFile& file : model_.files()) {
      if (!std::filesystem::equivalent(file.path(), output, ignored)) continue;
      throw Error({.path = output,
                   .what = "the output is one of the model's files",
                   .hint = "choose another name for the output",
                   .settings = {{Setting::kOutput}}});
    }
  }

  void WriteTensor(const ImportedTensor& tensor, TensorChange* change, TensorCopier& copier) {
    if (tensor.is_copied_as(change->to)) {
      copier.Copy(tensor.name, model_.DataOf(*tensor.source), change->to_bytes);
    } else {
      const WeightRows rows = RowsOfImported(model_, tensor, heads_, options_.n_threads);
      const WeightError error = copier.Convert(tensor.name, rows, change->to);
      change->relative_rms_error = error.relative_rms();
      change->max_abs_error = error.max_abs_error;
    }
    if (tensor.source != nullptr) model_.Release(*tensor.source);
  }

  const std::string& directory_;
  const ImportOptions& options_;
  HfConfig config_;
  const HfImport& family_;
  ImportedConfig imported_;
  HeadLayout heads_;
  SafetensorsModel model_;
  std::optional<ImportedVocabulary> vocabulary_;
  std::vector<ImportedTensor> tensors_;
  uint64_t n_weights_ = 0;
  ImportReport report_;
};

}  // namespace

ImportReport ImportModel(const std::string& directory, const std::string& output,
                         const ImportOptions& options) {
  return Importer(directory, options).Write(output);
}

ImportReport PlanImport(const std::string& directory, const ImportOptions& options) {
  return Importer(directory, options).report();
}

}  // namespace thermocline
