#include "runtime/gguf/gguf_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <filesystem>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_cursor.h"
#include "runtime/gguf/gguf_parser.h"
#include "runtime/gguf/gguf_split.h"

namespace thermocline {
namespace {

std::span<const std::byte> BytesOf(const MappedFile& file) { return {file.data(), file.size()}; }

MappedFile OpenMember(const GgufSplitSet& set, int index) {
  const std::string path = set.PathOf(index);
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw Error({.path = path,
                 .what = "a file of a split model is missing",
                 .expected = fmt::format("{} files, up to {}", set.n_files,
                                         Printable(set.PathOf(set.n_files - 1), 400)),
                 .hint = "put all files of the set into one directory"});
  }
  return MappedFile(path);
}

}  // namespace

GgufReader::GgufReader(const std::string& path) : path_(path) {
  MappedFile file(path);
  const auto bytes = BytesOf(file);
  GgufContents contents = ParseGguf(bytes, path);
  if (const auto set = FindSplitSet(contents, path)) {
    OpenSplitSet(*set);
  } else {
    AddFile({.mapping = std::move(file), .bytes = bytes, .name = path}, std::move(contents));
  }
}

GgufReader::GgufReader(std::span<const std::byte> bytes, std::string name)
    : path_(std::move(name)) {
  GgufContents contents = ParseGguf(bytes, path_);
  const uint64_t n_files_of_set = FindU64(contents.values, "split.count", path_).value_or(1);
  if (n_files_of_set > 1) {
    throw Error({.path = path_,
                 .what = "one part of a split model",
                 .expected = "a whole model",
                 .found = fmt::format("split.count {}", n_files_of_set),
                 .hint = "open it by its path"});
  }
  AddFile({.bytes = bytes, .name = path_}, std::move(contents));
}

void GgufReader::OpenSplitSet(const GgufSplitSet& set) {
  for (int i = 0; i < set.n_files; ++i) {
    MappedFile file = OpenMember(set, i);
    const std::string path = file.path();
    const auto bytes = BytesOf(file);
    GgufContents contents = ParseGguf(bytes, path);
    CheckSplitMember(contents, path, i, set.n_files);
    AddFile({.mapping = std::move(file), .bytes = bytes, .name = path}, std::move(contents));
  }
  const auto n_tensors = GetU64("split.tensors.count");
  if (n_tensors != tensors_.size()) {
    throw Error({.path = files_[0].name,
                 .what = "the files of the set do not hold the tensors that it should have",
                 .expected = n_tensors ? fmt::format("{} tensors", *n_tensors)
                                       : "the key 'split.tensors.count'",
                 .found = fmt::format("{} tensors", tensors_.size()),
                 .hint = "the files were mixed up: use one complete download"});
  }
}

void GgufReader::AddFile(File file, GgufContents contents) {
  file.data_offset = contents.data_offset;
  if (files_.empty()) {
    container_ = contents.container;
    version_ = contents.version;
    alignment_ = contents.alignment;
    keys_ = std::move(contents.keys);
    values_ = std::move(contents.values);
  }
  if (contents.container != container_) {
    throw Error({.path = file.name,
                 .what = "the files of the set are of two kinds",
                 .expected = fmt::format("the magic '{}'", GgufMagic(container_)),
                 .found = fmt::format("'{}'", GgufMagic(contents.container)),
                 .hint = "the files were mixed up: use one complete download"});
  }
  for (GgufTensorInfo& tensor : contents.tensors) {
    if (!tensor_index_.emplace(tensor.name, tensors_.size()).second) {
      throw Error({.path = file.name,
                   .what = fmt::format("tensor '{}' is there twice", Printable(tensor.name)),
                   .expected = "each name once",
                   .hint = kDamagedHint});
    }
    tensor.split_index = n_files();
    tensors_.push_back(std::move(tensor));
  }
  files_.push_back(std::move(file));
}

void GgufReader::SplitTensor(const std::string& name, std::span<const TensorPart> parts) {
  if (file_fingerprint_.empty()) file_fingerprint_ = ComputeFingerprint();
  const auto entry = tensor_index_.find(name);
  CHECK(entry != tensor_index_.end());
  const size_t at = entry->second;
  const GgufTensorInfo whole = tensors_[at];
  const bool vector = whole.dims.size() == 1;
  uint64_t n_rows = 0;
  for (const TensorPart& part : parts) n_rows += part.rows;
  const uint64_t found = vector ? whole.n_elements : whole.rows();
  const bool blocks = GetDTypeInfo(whole.dtype).block_elems != 1;
  if (n_rows != found || whole.dims.size() > 2 || (vector && blocks)) {
    throw Error({.path = path_,
                 .what = fmt::format("tensor '{}' holds several in one", Printable(name)),
                 .expected = fmt::format("{} {}", n_rows, vector ? "numbers" : "rows"),
                 .found = fmt::format("{} of type {}", found, DTypeName(whole.dtype)),
                 .hint = kDamagedHint});
  }
  std::vector<GgufTensorInfo> split;
  uint64_t first = 0;
  for (const TensorPart& part : parts) {
    GgufTensorInfo& info = split.emplace_back(whole);
    info.name = part.name;
    info.dims.back() = part.rows;
    info.n_elements = whole.n_elements / n_rows * part.rows;
    info.n_bytes = whole.n_bytes / n_rows * part.rows;
    info.offset = whole.offset + whole.n_bytes / n_rows * first;
    first += part.rows;
  }
  tensors_.erase(tensors_.begin() + static_cast<int64_t>(at));
  tensors_.insert(tensors_.begin() + static_cast<int64_t>(at), split.begin(), split.end());
  tensor_index_.clear();
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (tensor_index_.emplace(tensors_[i].name, i).second) continue;
    throw Error({.path = path_,
                 .what = fmt::format("tensor '{}' is there twice", Printable(tensors_[i].name)),
                 .expected = fmt::format("either it or '{}'", Printable(name)),
                 .hint = kDamagedHint});
  }
}

uint64_t GgufReader::file_bytes() const {
  uint64_t sum = 0;
  for (const File& file : files_) sum += file.bytes.size();
  return sum;
}

const GgufValue* GgufReader::Find(std::string_view key) const {
  const auto entry = values_.find(key);
  return entry == values_.end() ? nullptr : &entry->second;
}

std::optional<std::string> GgufReader::GetString(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const auto* text = std::get_if<std::string>(&value->value);
  if (text == nullptr) FailKeyType(key, *value, "string", path_);
  return *text;
}

std::optional<uint64_t> GgufReader::GetU64(std::string_view key) const {
  return FindU64(values_, key, path_);
}

std::optional<double> GgufReader::GetF64(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* n = std::get_if<uint64_t>(&value->value)) return static_cast<double>(*n);
  if (const auto* n = std::get_if<int64_t>(&value->value)) return static_cast<double>(*n);
  const auto* number = std::get_if<double>(&value->value);
  if (number == nullptr) FailKeyType(key, *value, "a number", path_);
  if (!std::isfinite(*number)) {
    throw Error({.path = path_,
                 .what = fmt::format("key '{}' is out of range", Printable(std::string(key))),
                 .expected = "a finite number",
                 .found = fmt::format("{}", *number),
                 .hint = kDamagedHint});
  }
  return *number;
}

std::optional<bool> GgufReader::GetBool(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const auto* flag = std::get_if<bool>(&value->value);
  if (flag == nullptr) FailKeyType(key, *value, "bool", path_);
  return *flag;
}

template <typename T>
const std::vector<T>* GgufReader::get_array(std::string_view key, const char* expected) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return nullptr;
  const auto* array = std::get_if<GgufValue::Array>(&value->value);
  const auto* elements = array == nullptr ? nullptr : std::get_if<std::vector<T>>(array);
  if (elements == nullptr) FailKeyType(key, *value, expected, path_);
  return elements;
}

const std::vector<std::string>* GgufReader::GetStrings(std::string_view key) const {
  return get_array<std::string>(key, "array of string");
}

const std::vector<int64_t>* GgufReader::GetI64s(std::string_view key) const {
  return get_array<int64_t>(key, "array of signed integers");
}

std::string GgufReader::RequireString(std::string_view key) const {
  auto text = GetString(key);
  if (!text) {
    throw Error({.path = path_,
                 .what = fmt::format("key '{}' is missing", Printable(std::string(key))),
                 .expected = "string",
                 .hint = "the file is of another kind or incomplete: make it again"});
  }
  return *std::move(text);
}

uint64_t GgufReader::RequireU64(std::string_view key, uint64_t min, uint64_t max) const {
  const auto number = GetU64(key);
  if (!number) {
    throw Error({.path = path_,
                 .what = fmt::format("key '{}' is missing", Printable(std::string(key))),
                 .expected = "an integer",
                 .hint = "the file is of another kind or incomplete: make it again"});
  }
  if (*number < min || *number > max) {
    throw Error({.path = path_,
                 .what = fmt::format("key '{}' is out of range", Printable(std::string(key))),
                 .expected = fmt::format("{} to {}", min, max),
                 .found = fmt::format("{}", *number),
                 .hint = kDamagedHint});
  }
  return *number;
}

const GgufTensorInfo* GgufReader::FindTensor(std::string_view name) const {
  const auto entry = tensor_index_.find(name);
  return entry == tensor_index_.end() ? nullptr : &tensors_[entry->second];
}

const std::byte* GgufReader::TensorData(const GgufTensorInfo& tensor) const {
  CHECK(tensor.split_index >= 0 && tensor.split_index < n_files());
  const File& file = files_[static_cast<size_t>(tensor.split_index)];
  return file.bytes.data() + file.data_offset + tensor.offset;
}

TensorView GgufReader::RequireMatrix(std::string_view name, int64_t rows, int64_t cols) const {
  const GgufTensorInfo* tensor = FindTensor(name);
  const std::string expected = fmt::format("{} rows of {}", rows, cols);
  if (tensor == nullptr) {
    throw Error({.path = path_,
                 .what = fmt::format("tensor '{}' is missing", Printable(std::string(name))),
                 .expected = expected,
                 .hint = "the file is incomplete or of a kind that is not supported"});
  }
  if (tensor->cols() != static_cast<uint64_t>(cols) ||
      tensor->rows() != static_cast<uint64_t>(rows)) {
    throw Error({.path = path_,
                 .what = fmt::format("tensor '{}' has the wrong shape", Printable(tensor->name)),
                 .expected = expected,
                 .found = fmt::format("{} rows of {}", tensor->rows(), tensor->cols()),
                 .hint = "its metadata and its tensors do not belong together: download it again"});
  }
  return DenseView(TensorData(*tensor), tensor->dtype, rows, cols);
}

void GgufReader::ReleasePages(const TensorView& tensor) const {
  const auto n_bytes = static_cast<uint64_t>(tensor.rows * tensor.row_stride_bytes);
  for (const File& file : files_) {
    const bool inside = tensor.data >= file.bytes.data() &&
                        tensor.data + n_bytes <= file.bytes.data() + file.bytes.size();
    if (inside && file.mapping) file.mapping->Release(tensor.data, n_bytes);
  }
}

}  // namespace thermocline
