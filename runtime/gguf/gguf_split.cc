#include "runtime/gguf/gguf_split.h"

#include <fmt/format.h>

#include <cctype>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr uint64_t kMaxFiles = 99'999;  // five digits in the name
constexpr std::string_view kShape = "-00001-of-00003.gguf";

// Reads NAME-%05d-of-%05d.gguf as prefix, member (from 0), n_files.
std::optional<GgufSplitSet> ParseName(const std::string& path) {
  if (path.size() < kShape.size()) return std::nullopt;
  const size_t start = path.size() - kShape.size();
  for (size_t i = 0; i < kShape.size(); ++i) {
    const auto c = static_cast<unsigned char>(path[start + i]);
    const bool digit_here = std::isdigit(static_cast<unsigned char>(kShape[i])) != 0;
    if (digit_here ? std::isdigit(c) == 0 : path[start + i] != kShape[i]) return std::nullopt;
  }
  GgufSplitSet set;
  set.prefix = path.substr(0, start);
  set.member = std::stoi(path.substr(start + 1, 5)) - 1;
  set.n_files = std::stoi(path.substr(start + 10, 5));
  return set;
}

[[noreturn]] void FailMember(const std::string& path, const std::string& what, uint64_t expected,
                             std::optional<uint64_t> found) {
  throw Error({.path = path,
               .what = what,
               .expected = fmt::format("{}", expected),
               .found = found ? fmt::format("{}", *found) : "no such key",
               .hint = "the files of the set were mixed up or renamed: use one complete download"});
}

}  // namespace

std::string GgufSplitSet::PathOf(int index) const {
  return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, index + 1, n_files);
}

std::vector<std::string> SplitFilesByName(const std::string& path) {
  std::vector<std::string> files = {path};
  const std::optional<GgufSplitSet> set = ParseName(path);
  for (int i = 0; set && i < set->n_files; ++i) files.push_back(set->PathOf(i));
  return files;
}

std::optional<GgufSplitSet> FindSplitSet(const GgufContents& contents, const std::string& path) {
  const uint64_t n_files = FindU64(contents.values, "split.count", path).value_or(1);
  if (n_files <= 1) return std::nullopt;
  if (n_files > kMaxFiles) {
    throw Error({.path = path,
                 .what = "key 'split.count' is out of range",
                 .expected = fmt::format("at most {}", kMaxFiles),
                 .found = fmt::format("{}", n_files),
                 .hint = "the file is damaged: download it again"});
  }
  std::optional<GgufSplitSet> set = ParseName(path);
  if (!set) {
    throw Error(
        {.path = path,
         .what = fmt::format("one of {} files of a split model, under another name", n_files),
         .expected = fmt::format("a name like NAME-00001-of-{:05}.gguf", n_files),
         .hint = "keep the names of the files as they were downloaded"});
  }
  const auto n_named = static_cast<uint64_t>(set->n_files);
  if (n_named != n_files) {
    FailMember(path, "the number of files in the name is not split.count", n_files, n_named);
  }
  if (set->member < 0 || set->member >= set->n_files) {
    throw Error({.path = path,
                 .what = "the number in the file's name is out of range",
                 .expected = fmt::format("1 to {}", set->n_files),
                 .found = fmt::format("{}", set->member + 1),
                 .hint = "keep the names of the files as they were downloaded"});
  }
  return set;
}

void CheckSplitMember(const GgufContents& contents, const std::string& path, int index,
                      int n_files) {
  const auto count = FindU64(contents.values, "split.count", path);
  if (count != static_cast<uint64_t>(n_files)) {
    FailMember(path, "key 'split.count' is not that of the set", static_cast<uint64_t>(n_files),
               count);
  }
  const auto number = FindU64(contents.values, "split.no", path);
  if (number != static_cast<uint64_t>(index)) {
    FailMember(path, "key 'split.no' does not fit the file's name", static_cast<uint64_t>(index),
               number);
  }
}

}  // namespace thermocline
