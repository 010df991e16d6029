#include "runtime/gguf/gguf_writer.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr uint32_t kVersion = 3;
constexpr uint64_t kDefaultAlignment = 32;
constexpr const char* kAlignmentKey = "general.alignment";

// Appends the file's form of values to a text.
class HeaderBytes {
 public:
  template <typename T>
  void number(T value) {
    static_assert(std::is_arithmetic_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void text(const std::string& value) {
    number(uint64_t{value.size()});
    bytes_ += value;
  }

  void value(const GgufValue& v) {
    number(static_cast<uint32_t>(v.type));
    std::visit([&](const auto& held) { ScalarOrArray(v, held); }, v.value);
  }

  const std::string& bytes() const { return bytes_; }

 private:
  void ScalarOrArray(const GgufValue& v, const GgufValue::Array& array) {
    CHECK(v.type == GgufType::kArray && v.element_type != GgufType::kArray);
    number(static_cast<uint32_t>(v.element_type));
    std::visit(
        [&](const auto& elements) {
          number(uint64_t{elements.size()});
          for (const auto& element : elements) scalar(v.element_type, element);
        },
        array);
  }
  template <typename T>
  void ScalarOrArray(const GgufValue& v, const T& held) {
    scalar(v.type, held);
  }

  template <typename File, typename Held>
  void narrow(Held held) {
    CHECK(held >= std::numeric_limits<File>::min() && held <= std::numeric_limits<File>::max());
    number(static_cast<File>(held));
  }

  void scalar(GgufType type, const std::string& held) {
    CHECK(type == GgufType::kString);
    text(held);
  }
  void scalar(GgufType type, bool held) {
    CHECK(type == GgufType::kBool);
    number(static_cast<uint8_t>(held ? 1 : 0));
  }
  void scalar(GgufType type, double held) {
    CHECK(ValueKindOf(type) == GgufValueKind::kFloat);
    if (type == GgufType::kF64) return number(held);
    number(static_cast<float>(held));
  }
  void scalar(GgufType type, int64_t held) {
    CHECK(ValueKindOf(type) == GgufValueKind::kSigned);
    if (type == GgufType::kI8) return narrow<int8_t>(held);
    if (type == GgufType::kI16) return narrow<int16_t>(held);
    if (type == GgufType::kI32) return narrow<int32_t>(held);
    number(held);
  }
  void scalar(GgufType type, uint64_t held) {
    if (type == GgufType::kBool) {  // the element of an array
      CHECK(held <= 1);
      return number(static_cast<uint8_t>(held));
    }
    CHECK(ValueKindOf(type) == GgufValueKind::kUnsigned);
    if (type == GgufType::kU8) return narrow<uint8_t>(held);
    if (type == GgufType::kU16) return narrow<uint16_t>(held);
    if (type == GgufType::kU32) return narrow<uint32_t>(held);
    number(held);
  }

  std::string bytes_;
};

}  // namespace

GgufWriter::GgufWriter(const std::string& path, uint64_t alignment)
    : file_(path), alignment_(alignment) {
  CHECK(alignment >= 8 && alignment <= (1U << 20) && (alignment & (alignment - 1)) == 0);
}

void GgufWriter::Set(const std::string& key, GgufValue value) {
  CHECK(!header_written_ && !key.empty());
  const auto same = std::find_if(values_.begin(), values_.end(),
                                 [&](const auto& entry) { return entry.first == key; });
  if (same != values_.end()) {
    same->second = std::move(value);
  } else {
    values_.emplace_back(key, std::move(value));
  }
}

void GgufWriter::DeclareTensor(const std::string& name, DType dtype, std::vector<uint64_t> dims) {
  CHECK(!header_written_ && !name.empty() && !dims.empty() && dims.size() <= 4);
  CHECK(names_.insert(name).second);
  const DTypeInfo& info = GetDTypeInfo(dtype);
  GgufTensorInfo tensor{.name = name, .dtype = dtype, .dims = std::move(dims)};
  tensor.n_elements = 1;
  for (const uint64_t dim : tensor.dims) {
    CHECK(dim > 0 && CheckedMul(tensor.n_elements, dim, &tensor.n_elements));
  }
  CHECK(tensor.cols() % info.block_elems == 0);
  CHECK(CheckedMul(tensor.n_elements / info.block_elems, info.block_bytes, &tensor.n_bytes));
  if (!tensors_.empty()) {
    const GgufTensorInfo& before = tensors_.back();
    uint64_t end = 0;
    CHECK(CheckedAdd(before.offset, before.n_bytes, &end));
    CHECK(CheckedAlignUp(end, alignment_, &tensor.offset));
  }
  tensors_.push_back(std::move(tensor));
}

void GgufWriter::WriteHeader() {
  const bool has_key = std::any_of(values_.begin(), values_.end(),
                                   [](const auto& entry) { return entry.first == kAlignmentKey; });
  if (has_key || alignment_ != kDefaultAlignment) {
    Set(kAlignmentKey, GgufValue::u32(static_cast<uint32_t>(alignment_)));
  }
  HeaderBytes header;
  header.number('G');
  header.number('G');
  header.number('U');
  header.number('F');
  header.number(kVersion);
  header.number(uint64_t{tensors_.size()});
  header.number(uint64_t{values_.size()});
  for (const auto& [key, value] : values_) {
    header.text(key);
    header.value(value);
  }
  for (const GgufTensorInfo& tensor : tensors_) {
    header.text(tensor.name);
    header.number(static_cast<uint32_t>(tensor.dims.size()));
    for (const uint64_t dim : tensor.dims) header.number(dim);
    header.number(static_cast<uint32_t>(tensor.dtype));
    header.number(tensor.offset);
  }
  file_.Write(header.bytes().data(), header.bytes().size());
  header_written_ = true;
  if (!tensors_.empty()) pad();
}

// Writes zeros up to the next multiple of the alignment. Offsets in the data section are multiples
// too, and it begins at one, so that position in the file and offset agree.
void GgufWriter::pad() {
  const std::string zeros((alignment_ - file_.bytes_written() % alignment_) % alignment_, '\0');
  file_.Write(zeros.data(), zeros.size());
}

void GgufWriter::BeginTensor(const std::string& name) {
  if (!header_written_) WriteHeader();
  EndTensor();
  CHECK(next_tensor_ < tensors_.size() && tensors_[next_tensor_].name == name);
  left_in_tensor_ = tensors_[next_tensor_].n_bytes;
  ++next_tensor_;
}

void GgufWriter::EndTensor() {
  CHECK(left_in_tensor_ == 0);
  pad();
}

void GgufWriter::Write(const void* data, uint64_t n_bytes) {
  CHECK(n_bytes <= left_in_tensor_);
  file_.Write(data, n_bytes);
  left_in_tensor_ -= n_bytes;
}

void GgufWriter::WriteTensor(const std::string& name, const void* data, uint64_t n_bytes) {
  BeginTensor(name);
  Write(data, n_bytes);
  CHECK(left_in_tensor_ == 0);
}

void GgufWriter::Finish() {
  if (!header_written_) WriteHeader();
  if (!tensors_.empty()) EndTensor();
  CHECK(next_tensor_ == tensors_.size());
  file_.Commit();
}

}  // namespace thermocline
