#include "tests/gguf/gguf_bytes.h"

namespace thermocline {
namespace {

struct Marked {
  GgufBytes file;
  std::vector<uint64_t> sections;
  void mark() { sections.push_back(file.bytes().size()); }
};

void AddScalarKeys(Marked& m) {
  m.file.key("s.u8", GgufType::kU8).number(uint8_t{200}), m.mark();
  m.file.key("s.i8", GgufType::kI8).number(int8_t{-100}), m.mark();
  m.file.key("s.u16", GgufType::kU16).number(uint16_t{60000}), m.mark();
  m.file.key("s.i16", GgufType::kI16).number(int16_t{-30000}), m.mark();
  m.file.key("s.u32", GgufType::kU32).number(uint32_t{4000000000}), m.mark();
  m.file.key("s.i32", GgufType::kI32).number(int32_t{-2000000000}), m.mark();
  m.file.key("s.f32", GgufType::kF32).number(0.1F), m.mark();
  m.file.key("s.bool", GgufType::kBool).number(uint8_t{1}), m.mark();
  m.file.KeyText("s.string", "snow\n\xe9\x9b\xaa"), m.mark();
  m.file.key("s.u64", GgufType::kU64).number(UINT64_MAX), m.mark();
  m.file.key("s.i64", GgufType::kI64).number(INT64_MIN), m.mark();
  m.file.key("s.f64", GgufType::kF64).number(-0.1), m.mark();
}

void AddArrayKeys(Marked& m) {
  m.file.KeyArray("a.string", GgufType::kString, 3).text("a").text("").text("ccc"), m.mark();
  m.file.KeyArray("a.f32", GgufType::kF32, 2).number(1.5F).number(-2.5F), m.mark();
  m.file.KeyArray("a.i32", GgufType::kI32, 2).number(int32_t{-7}).number(int32_t{7}), m.mark();
  m.file.KeyArray("a.bool", GgufType::kBool, 2).u8(1).u8(0), m.mark();
  m.file.KeyArray("a.u16", GgufType::kU16, 1).number(uint16_t{9}), m.mark();
  m.file.KeyArray("a.empty", GgufType::kU64, 0), m.mark();
}

Marked Build(uint32_t version) {
  Marked m;
  m.file.header(3, 20, version), m.mark();
  m.file.KeyText("general.architecture", "llama"), m.mark();
  m.file.KeyU32("llama.block_count", 1), m.mark();
  AddScalarKeys(m);
  AddArrayKeys(m);
  m.file.tensor("one", {3, 2}, DType::kF32, 0), m.mark();
  m.file.tensor("two", {32, 3}, DType::kQ8_0, 32), m.mark();
  m.file.tensor("three", {5}, DType::kF16, 160), m.mark();
  m.file.pad(), m.mark();
  for (int i = 0; i < 6; ++i) m.file.number(static_cast<float>(i));
  m.mark();
  m.file.pad();
  for (int i = 0; i < 102; ++i) m.file.u8(static_cast<uint8_t>(i));
  m.mark();
  m.file.pad();
  for (int i = 0; i < 10; ++i) m.file.u8(static_cast<uint8_t>(100 + i));
  m.mark();
  return m;
}

}  // namespace

GgufBytes& GgufBytes::raw(const std::string& bytes) {
  bytes_ += bytes;
  return *this;
}

GgufBytes& GgufBytes::text(const std::string& text) { return u64(text.size()).raw(text); }

GgufBytes& GgufBytes::zeros(uint64_t n_bytes) { return raw(std::string(n_bytes, '\0')); }

GgufBytes& GgufBytes::pad(uint64_t alignment) {
  return zeros((alignment - bytes_.size() % alignment) % alignment);
}

GgufBytes& GgufBytes::header(uint64_t n_tensors, uint64_t n_keys, uint32_t version) {
  return raw("GGUF").u32(version).u64(n_tensors).u64(n_keys);
}

GgufBytes& GgufBytes::key(const std::string& name, GgufType type) {
  return text(name).u32(static_cast<uint32_t>(type));
}

GgufBytes& GgufBytes::KeyU32(const std::string& name, uint32_t value) {
  return key(name, GgufType::kU32).u32(value);
}

GgufBytes& GgufBytes::KeyText(const std::string& name, const std::string& value) {
  return key(name, GgufType::kString).text(value);
}

GgufBytes& GgufBytes::KeyArray(const std::string& name, GgufType element, uint64_t count) {
  return key(name, GgufType::kArray).u32(static_cast<uint32_t>(element)).u64(count);
}

GgufBytes& GgufBytes::tensor(const std::string& name, const std::vector<uint64_t>& dims,
                             DType dtype, uint64_t offset) {
  text(name).u32(static_cast<uint32_t>(dims.size()));
  for (const uint64_t dim : dims) u64(dim);
  return u32(static_cast<uint32_t>(dtype)).u64(offset);
}

std::string SmallValidGguf(uint32_t version) { return Build(version).file.bytes(); }

std::string AsPowerInfer(std::string bytes) { return bytes.replace(0, 4, "PWRI"); }

std::vector<uint64_t> SmallValidGgufSections() { return Build(3).sections; }

}  // namespace thermocline
