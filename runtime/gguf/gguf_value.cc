#include "runtime/gguf/gguf_value.h"

#include <fmt/format.h>

namespace thermocline {
namespace {

GgufType read_type(GgufCursor& cursor) {
  const auto id = cursor.read<uint32_t>();
  if (id > static_cast<uint32_t>(GgufType::kF64)) {
    cursor.fail("unknown value type", "a type id from 0 to 12", fmt::format("{}", id));
  }
  return static_cast<GgufType>(id);
}

// Bytes of an element in the file; of a text the least, its length.
uint64_t element_bytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    default:
      return 8;
  }
}

bool read_bool(GgufCursor& cursor) {
  const auto byte = cursor.read<uint8_t>();
  if (byte > 1) cursor.fail("a bad boolean", "0 or 1", fmt::format("{}", byte));
  return byte == 1;
}

uint64_t read_unsigned(GgufCursor& cursor, GgufType type) {
  switch (type) {
    case GgufType::kU8:
      return cursor.read<uint8_t>();
    case GgufType::kU16:
      return cursor.read<uint16_t>();
    case GgufType::kU32:
      return cursor.read<uint32_t>();
    case GgufType::kBool:
      return read_bool(cursor) ? 1 : 0;
    default:
      return cursor.read<uint64_t>();
  }
}

int64_t read_signed(GgufCursor& cursor, GgufType type) {
  switch (type) {
    case GgufType::kI8:
      return cursor.read<int8_t>();
    case GgufType::kI16:
      return cursor.read<int16_t>();
    case GgufType::kI32:
      return cursor.read<int32_t>();
    default:
      return cursor.read<int64_t>();
  }
}

double read_float(GgufCursor& cursor, GgufType type) {
  return type == GgufType::kF32 ? double{cursor.read<float>()} : cursor.read<double>();
}

template <typename T, typename Read>
std::vector<T> read_elements(uint64_t count, Read read) {
  std::vector<T> elements;
  elements.reserve(count);
  for (uint64_t i = 0; i < count; ++i) elements.push_back(read());
  return elements;
}

GgufValue read_array(GgufCursor& cursor, uint64_t* elements_left) {
  const GgufType type = read_type(cursor);
  if (type == GgufType::kArray) {
    cursor.fail("an array of arrays", "an array of numbers or texts", "type id 9", "");
  }
  const auto count = cursor.read<uint64_t>();
  const uint64_t most = cursor.remaining() / element_bytes(type);
  if (count > most) {
    cursor.fail("the array is longer than the file", fmt::format("at most {} elements", most),
                fmt::format("{}", count));
  }
  if (count > *elements_left) {
    cursor.fail("too many array elements",
                fmt::format("at most {} in all arrays of a file", kMaxArrayElements),
                fmt::format("{} in this one", count), "");
  }
  *elements_left -= count;
  GgufValue::Array array;
  switch (gguf_value_kind(type)) {
    case GgufValueKind::kSigned:
      array = read_elements<int64_t>(count, [&] { return read_signed(cursor, type); });
      break;
    case GgufValueKind::kFloat:
      array = read_elements<double>(count, [&] { return read_float(cursor, type); });
      break;
    case GgufValueKind::kString:
      array =
          read_elements<std::string>(count, [&] { return cursor.read_string(kMaxStringBytes); });
      break;
    default:
      array = read_elements<uint64_t>(count, [&] { return read_unsigned(cursor, type); });
  }
  return {GgufType::kArray, type, std::move(array)};
}

}  // namespace

GgufValue read_gguf_value(GgufCursor& cursor, uint64_t* elements_left) {
  const GgufType type = read_type(cursor);
  switch (gguf_value_kind(type)) {
    case GgufValueKind::kUnsigned:
      return {type, {}, read_unsigned(cursor, type)};
    case GgufValueKind::kSigned:
      return {type, {}, read_signed(cursor, type)};
    case GgufValueKind::kFloat:
      return {type, {}, read_float(cursor, type)};
    case GgufValueKind::kBool:
      return {type, {}, read_bool(cursor)};
    case GgufValueKind::kString:
      return {type, {}, cursor.read_string(kMaxStringBytes)};
    case GgufValueKind::kArray:
      break;
  }
  return read_array(cursor, elements_left);
}

}  // namespace thermocline
