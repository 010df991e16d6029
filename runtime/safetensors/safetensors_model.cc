// A model's files: one, or the shards of an index.
#include <fmt/format.h>

#include <filesystem>
#include <set>

#include "runtime/core/error.h"
#include "runtime/safetensors/bounded_json.h"
#include "runtime/safetensors/safetensors.h"

namespace thermocline {
namespace {

constexpr JsonBounds kIndexBounds = {
    .max_bytes = 100'000'000, .max_depth = 8, .max_values = 4'000'000};
constexpr size_t kMaxShards = 10'000;

// Whether a name is that of a file in the index's own directory.
bool IsPlainFileName(const std::string& name) {
  return !name.empty() && name.size() < 256 && name != "." && name != ".." &&
         name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

bool IsThere(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

}  // namespace

std::map<std::string, std::string> ParseSafetensorsIndex(std::string_view text,
                                                         const std::string& path) {
  const nlohmann::json index = ParseBoundedJson(text, path, kIndexBounds);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (map == index.end() || !map->is_object() || map->empty()) {
    throw Error({.path = path,
                 .what = "key weight_map",
                 .expected = "an object: the file of each tensor",
                 .found = map == index.end() ? "no such key" : JsonKind(*map)});
  }
  std::map<std::string, std::string> shards;
  for (const auto& [name, file] : map->items()) {
    if (!file.is_string() || !IsPlainFileName(file.get_ref<const std::string&>())) {
      throw Error({.path = path,
                   .what = fmt::format("the file of tensor {}", Printable(name)),
                   .expected = "the name of a file in the same directory",
                   .found = JsonKind(file)});
    }
    shards.emplace(name, file.get<std::string>());
  }
  return shards;
}

SafetensorsModel::SafetensorsModel(const std::string& directory) {
  const std::string index = directory + "/model.safetensors.index.json";
  const std::string single = directory + "/model.safetensors";
  if (IsThere(index)) {
    OpenShards(directory, index);
  } else if (IsThere(single)) {
    AddFile(single);
  } else {
    const bool is_pickled = IsThere(directory + "/pytorch_model.bin") ||
                            IsThere(directory + "/pytorch_model.bin.index.json");
    throw Error({.path = directory,
                 .what = "no model here",
                 .expected = "model.safetensors, or model.safetensors.index.json and its files",
                 .found = is_pickled ? "pytorch_model.bin, which may run code when it is read" : "",
                 .hint = is_pickled ? "save it as safetensors first"
                                    : "name the directory of a Hugging Face model"});
  }
  if (tensors_.empty()) {
    throw Error({.path = directory, .what = "the model's files hold no tensors"});
  }
}

void SafetensorsModel::OpenShards(const std::string& directory, const std::string& index_path) {
  const auto shards =
      ParseSafetensorsIndex(ReadWholeFile(index_path, kIndexBounds.max_bytes), index_path);
  std::set<std::string> names;
  for (const auto& [tensor, file] : shards) names.insert(file);
  if (names.size() > kMaxShards) {
    throw Error({.path = index_path,
                 .what = "number of files",
                 .expected = fmt::format("at most {}", kMaxShards),
                 .found = std::to_string(names.size())});
  }
  const auto path_of = [&](const std::string& name) {
    return fmt::format("{}/{}", directory, name);
  };
  for (const std::string& name : names) {
    if (!IsThere(path_of(name))) {
      throw Error({.path = path_of(name),
                   .what = "a file of the model is missing",
                   .expected = fmt::format("the {} files that the index names", names.size()),
                   .hint = "download the whole model"});
    }
    AddFile(path_of(name));
  }
  for (const auto& [tensor, file] : shards) {
    const SafetensorsTensor* found = Find(tensor);
    if (found != nullptr && PathOf(*found) == path_of(file)) continue;
    throw Error({.path = path_of(file),
                 .what = fmt::format("tensor {} is missing", Printable(tensor)),
                 .expected = "what the index says is in this file",
                 .found = found == nullptr ? "" : "it in " + Printable(PathOf(*found), 400),
                 .hint = "the files are of different models, or incomplete: download them again"});
  }
}

void SafetensorsModel::AddFile(const std::string& path) {
  files_.emplace_back(path);
  const MappedFile& file = files_.back();
  for (SafetensorsTensor& tensor : ParseSafetensors({file.data(), file.size()}, path)) {
    tensor.file = files_.size() - 1;
    const auto [entry, is_new] = by_name_.emplace(tensor.name, tensors_.size());
    if (!is_new) {
      throw Error({.path = path,
                   .what = fmt::format("tensor {} is in two files", Printable(tensor.name)),
                   .expected = "each tensor once",
                   .found = "it in " + Printable(PathOf(tensors_[entry->second]), 400)});
    }
    tensors_.push_back(std::move(tensor));
  }
}

const SafetensorsTensor* SafetensorsModel::Find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace thermocline
