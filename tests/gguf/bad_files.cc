#include "tests/gguf/bad_files.h"

#include <fmt/format.h>

#include "tests/gguf/gguf_bytes.h"

namespace thermocline {
namespace {

using Files = std::vector<BadFile>;

std::string FileWithKeys(uint64_t n_keys, const GgufBytes& keys) {
  return GgufBytes().header(0, n_keys).raw(keys.bytes()).zeros(64).bytes();
}

std::string FileWithTensors(uint64_t n_tensors, const GgufBytes& table, uint64_t n_data_bytes) {
  return GgufBytes().header(n_tensors, 0).raw(table.bytes()).pad().zeros(n_data_bytes).bytes();
}

std::string OneTensor(const std::vector<uint64_t>& dims, uint32_t dtype, uint64_t offset = 0) {
  return FileWithTensors(1, GgufBytes().tensor("w", dims, static_cast<DType>(dtype), offset), 1024);
}

void AddHeaders(Files& files) {
  const auto version = [](uint32_t v) { return GgufBytes().header(0, 0, v).zeros(64).bytes(); };
  files.push_back({"no_bytes", "", "the file ends inside the header"});
  files.push_back({"bad_magic", "GGML" + version(3).substr(4), "not a GGUF file"});
  files.push_back({"git_lfs_pointer", "version https://git-lfs.github.com/spec/v1\n", "Git LFS"});
  files.push_back({"version_0", version(0), "unsupported GGUF version: expected 2 or 3, found 0"});
  files.push_back({"version_1", version(1), "convert the model again"});
  files.push_back({"version_4", version(4), "found 4"});
  files.push_back({"version_99", version(99), "found 99"});
  files.push_back({"version_swapped", version(0x03000000), "big-endian"});
  const auto counts = [](uint64_t n_tensors, uint64_t n_keys) {
    return GgufBytes().header(n_tensors, n_keys).zeros(256).bytes();
  };
  files.push_back({"tensors_2_64", counts(UINT64_MAX, 0), "the number of tensors"});
  files.push_back({"tensors_2_32", counts(1ULL << 32, 0), "the number of tensors"});
  files.push_back({"keys_2_64", counts(0, UINT64_MAX), "the number of keys"});
  files.push_back({"keys_2_31", counts(0, 1ULL << 31), "the number of keys"});
  files.push_back({"one_key_too_many", FileWithKeys(2, GgufBytes().KeyU32("a", 1)), "empty"});
}

void AddKeys(Files& files) {
  const auto one = [&](const std::string& name, const GgufBytes& key, const std::string& part) {
    files.push_back({name, FileWithKeys(1, key), part});
  };
  one("key_empty", GgufBytes().KeyU32("", 1), "an empty name");
  one("key_length_2_63", GgufBytes().u64(1ULL << 63), "a text is too long");
  one("key_length_2_64", GgufBytes().u64(UINT64_MAX), "a text is too long");
  one("key_length_65537", GgufBytes().KeyU32(std::string(65537, 'k'), 1), "at most 65536 bytes");
  one("key_past_end", GgufBytes().u64(1000), "the file ends inside the name of a key");
  one("key_control_characters", GgufBytes().key("a\n\x1b[2J", static_cast<GgufType>(77)),
      "'a\\x0a\\x1b[2J'");
  one("value_type_13", GgufBytes().key("k", static_cast<GgufType>(13)), "unknown value type");
  one("value_type_max", GgufBytes().key("k", static_cast<GgufType>(UINT32_MAX)),
      "expected a type id from 0 to 12, found 4294967295");
  one("bool_2", GgufBytes().key("k", GgufType::kBool).u8(2), "a bad boolean: expected 0 or 1");
  one("string_length_2_63", GgufBytes().key("k", GgufType::kString).u64(1ULL << 63),
      "the value of key 'k': a text is too long");
  one("string_past_end", GgufBytes().key("k", GgufType::kString).u64(65),
      "the file ends inside the value of key 'k': expected 65 more bytes");
  files.push_back({"key_twice", FileWithKeys(2, GgufBytes().KeyU32("k", 1).KeyText("k", "again")),
                   "key 'k': the key is there twice"});
}

void AddArrays(Files& files) {
  const auto one = [&](const std::string& name, GgufType type, uint64_t count,
                       const GgufBytes& elements, const std::string& part) {
    files.push_back({name,
                     FileWithKeys(1, GgufBytes().KeyArray("k", type, count).raw(elements.bytes())),
                     part});
  };
  const std::string too_long = "the array is longer than the file";
  one("array_of_arrays", GgufType::kArray, 1, {}, "an array of arrays");
  one("array_of_type_13", static_cast<GgufType>(13), 1, {}, "unknown value type");
  one("array_2_64", GgufType::kU8, UINT64_MAX, {}, too_long);
  one("array_2_62", GgufType::kU32, 1ULL << 62, {}, too_long);
  one("array_2_61", GgufType::kF64, 1ULL << 61, {}, too_long);
  one("array_of_strings_2_40", GgufType::kString, 1ULL << 40, {}, too_long);
  one("array_one_too_long", GgufType::kU64, 9, {}, too_long);
  one("array_bool_2", GgufType::kBool, 2, GgufBytes().u8(1).u8(2), "a bad boolean");
  one("array_string_length_2_63", GgufType::kString, 1, GgufBytes().u64(1ULL << 63),
      "a text is too long");
  one("array_string_past_end", GgufType::kString, 2, GgufBytes().text("a").u64(1000),
      "the file ends inside the value of key 'k'");
}

void AddAlignments(Files& files) {
  const std::string key = "general.alignment";
  const auto one = [&](const std::string& name, const GgufBytes& value, const std::string& part) {
    files.push_back({name, FileWithKeys(1, value), part});
  };
  const std::string range = "'general.alignment' is out of range: expected a power of two";
  for (const uint32_t bad : {0U, 1U, 3U, 4U, 33U, 1U << 21, UINT32_MAX}) {
    one(fmt::format("alignment_{}", bad), GgufBytes().KeyU32(key, bad), range);
  }
  one("alignment_negative", GgufBytes().key(key, GgufType::kI32).number(int32_t{-32}),
      "'general.alignment' is out of range");
  one("alignment_2_63", GgufBytes().key(key, GgufType::kU64).u64(1ULL << 63), range);
  one("alignment_string", GgufBytes().KeyText(key, "32"),
      "'general.alignment' has the wrong type: expected an integer, found string");
  one("alignment_float", GgufBytes().key(key, GgufType::kF32).number(32.0F), "wrong type");
  one("alignment_bool", GgufBytes().key(key, GgufType::kBool).u8(1), "found bool");
  one("alignment_array", GgufBytes().KeyArray(key, GgufType::kU32, 1).u32(32), "array of u32");
}

void AddTensorShapes(Files& files) {
  const uint32_t f32 = static_cast<uint32_t>(DType::kF32);
  const uint32_t f64 = static_cast<uint32_t>(DType::kF64);
  const uint32_t q8_0 = static_cast<uint32_t>(DType::kQ8_0);
  const uint64_t two_32 = 1ULL << 32;
  files.push_back({"dims_0", OneTensor({}, f32), "bad number of dimensions"});
  files.push_back({"dims_5", OneTensor({1, 1, 1, 1, 1}, f32), "expected 1 to 4, found 5"});
  files.push_back({"dims_2_32", FileWithTensors(1, GgufBytes().text("w").u32(UINT32_MAX), 64),
                   "found 4294967295"});
  files.push_back({"zero_dim", OneTensor({0}, f32), "an empty dimension"});
  files.push_back({"zero_last_dim", OneTensor({4, 4, 0}, f32), "an empty dimension"});
  files.push_back({"elements_2_64", OneTensor({two_32, two_32}, f32), "too many elements"});
  files.push_back({"elements_wrap", OneTensor({two_32, two_32, 2, 3}, f32), "too many elements"});
  files.push_back({"elements_2_63", OneTensor({two_32, two_32 / 2}, f32), "too many elements"});
  files.push_back({"elements_negative", OneTensor({UINT64_MAX}, f32), "too many elements"});
  files.push_back({"bytes_2_64", OneTensor({two_32, 1ULL << 29}, f64), "too large"});
  files.push_back({"bytes_2_63", OneTensor({two_32, 1ULL << 28}, f64), "too large"});
  files.push_back({"bytes_2_62", OneTensor({two_32, 1ULL << 27}, f64), "after the end"});
  for (const uint32_t type : {4U, 5U, 31U, 99U, UINT32_MAX}) {
    files.push_back({fmt::format("tensor_type_{}", type), OneTensor({32}, type),
                     "tensor 'w': unknown tensor type"});
  }
  files.push_back({"row_not_whole_blocks", OneTensor({33, 32}, q8_0),
                   "bad row length: expected a multiple of 32 for Q8_0, found 33"});
  files.push_back({"row_of_half_a_block", OneTensor({16, 2}, q8_0), "bad row length"});
}

void AddTensorPlaces(Files& files) {
  const uint32_t f32 = static_cast<uint32_t>(DType::kF32);
  files.push_back({"offset_16", OneTensor({4}, f32, 16), "an offset that 32 divides, found 16"});
  files.push_back({"offset_1", OneTensor({4}, f32, 1), "misaligned"});
  files.push_back({"offset_2_64", OneTensor({64}, f32, UINT64_MAX - 31), "after the end"});
  files.push_back({"offset_after_end", OneTensor({4}, f32, 2048), "after the end"});
  files.push_back({"last_byte_missing", OneTensor({257}, f32), "ends after the end of the file"});
  const auto two = [&](const std::string& a, uint64_t at_a, const std::string& b, uint64_t at_b) {
    return FileWithTensors(
        2, GgufBytes().tensor(a, {16}, DType::kF32, at_a).tensor(b, {16}, DType::kF32, at_b), 1024);
  };
  files.push_back({"overlap", two("a", 0, "b", 32), "tensor 'b': overlaps tensor 'a'"});
  files.push_back(
      {"overlap_backwards", two("a", 96, "b", 64), "expected an offset of at least 128"});
  files.push_back({"same_place", two("a", 64, "b", 64), "overlaps"});
  files.push_back({"tensor_twice", two("a", 0, "a", 64), "tensor 'a' is there twice"});
  files.push_back({"tensor_name_empty", two("", 0, "a", 64), "an empty name"});
  files.push_back({"tensor_name_65537", two(std::string(65537, 'n'), 0, "a", 64), "too long"});
  files.push_back({"tensor_name_2_63", FileWithTensors(1, GgufBytes().u64(1ULL << 63), 64),
                   "a text is too long"});
  files.push_back({"no_padding", GgufBytes().header(1, 0).tensor("w", {1}, DType::kF32, 0).bytes(),
                   "the padding before the tensors"});
}

void AddTruncated(Files& files) {
  const std::string whole = SmallValidGguf();
  for (const uint64_t end : SmallValidGgufSections()) {
    if (end == whole.size()) continue;
    files.push_back({fmt::format("truncated_at_{}", end), whole.substr(0, end), "truncated"});
    files.push_back(
        {fmt::format("truncated_at_{}", end - 1), whole.substr(0, end - 1), "truncated"});
  }
}

// PowerInfer's magic allows one thing in addition: a single dimension that is 0 is an empty list.
void AddPowerInferVariants(Files& files) {
  const size_t n_files = files.size();
  for (size_t i = 0; i < n_files; ++i) {
    BadFile file = files[i];
    if (!file.bytes.starts_with("GGUF") || file.name == "zero_dim") continue;
    file.name = "pwri_" + file.name;
    file.bytes = AsPowerInfer(file.bytes);
    files.push_back(file);
  }
  const uint32_t f32 = static_cast<uint32_t>(DType::kF32);
  files.push_back(
      {"pwri_zero_by_zero", AsPowerInfer(OneTensor({0, 0}, f32)), "an empty dimension"});
  files.push_back({"pwri_zero_row", AsPowerInfer(OneTensor({0, 4}, f32)), "an empty dimension"});
  files.push_back({"pwri_zero_dim_misaligned", AsPowerInfer(OneTensor({0}, f32, 1)), "misaligned"});
  files.push_back({"pwri_lower_case", "pwri" + SmallValidGguf().substr(4), "PowerInfer's 'PWRI'"});
}

}  // namespace

std::vector<BadFile> BadGgufFiles() {
  Files files;
  AddHeaders(files);
  AddKeys(files);
  AddArrays(files);
  AddAlignments(files);
  AddTensorShapes(files);
  AddTensorPlaces(files);
  AddTruncated(files);
  AddPowerInferVariants(files);
  return files;
}

}  // namespace thermocline
